"""A run over facts: a causal trace of each fact and kind into a folder, begun once, resumed as often as need be.

    out/settings.json              what the folder was begun with; anything else is refused
    out/traces/0007.mlp.npz        the trace of one fact, with its provenance
    out/traces/0012.skipped.json   a fact that the model gets wrong, and what it says instead
    out/average.npz .txt .csv, average.png, average_lines.png

Files are written whole or not at all, so a run may be killed at any moment: what is there is kept, and the next
run does the rest. Under `mlx.launch` the facts are spread over the ranks, and rank 0 averages. Processes that hold one
model together count as one; the first of them reads and writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import mlx.core as mx

from ..arguments import true_or_false, whole_number
from ..errors import InputError
from ..experiments.causal_trace import TracedModel, causal_trace, window_in
from .filling import Filling, Made, Ranks
from .folder_averages import AverageTrace, FactFolder, average_folder
from .known import Fact, FactReader, Known, read_known
from .noise_scale import GaussianNoise, level_of_run
from .provenance import digest, fingerprint

KINDS = tuple(FactFolder.parts)


def run_facts(
    model: TracedModel,
    facts: Sequence[Fact],
    out: str | os.PathLike,
    kinds: Iterable[str | None] = KINDS,
    *,
    samples: int | str = 10,
    noise: str | float = "s3",
    window: int | str = 10,
    seed: int = 1,
    replace: bool = False,
    limit: int | None = None,
    engine: str = "auto",
    max_memory: int | None = None,
    progress: bool | None = None,
    group: mx.distributed.Group | None = None,
    first_token: bool = False,
    within: float | None = None,
) -> AverageTrace:
    """Trace every fact that the model gets right, into a folder, and average (Meng et al. 2022, section 2.2).

    A fact counts as right when the model says all of its attribute: the top token at each step. What is traced is the
    probability of all of it. Facts that are wrong, or whose subject cannot be found in the tokens, are recorded and
    skipped. A level such as "s3" is in standard
    deviations of the embeddings of all the facts' subjects, each tokenized alone, as in the authors' code.

    Args:
        model: an InterpretableModel.
        facts: what is traced.
        out: the folder; begun if need be, resumed if it was begun with the same model, facts and settings.
        kinds: None (one layer output at a time), "mlp", "attn" (windows of `window` layers); all three by default.
        samples, noise, window, seed, replace, engine, max_memory, within: as in `causal_trace`.
        limit: trace the first so many facts only; a later run may go further.
        group: a distributed group; default: the one that `mlx.launch` started, if it did.
        first_token: as in the authors' code, a fact counts as right by the first token of its attribute, which alone
            is traced.

    Returns:
        The averages, on every rank.

    Raises:
        InputError: when the folder was begun with other settings, or the model gets no fact right.
    """
    kinds, whole = _kinds(kinds), not true_or_false("first_token", first_token)
    window = window_in(model, window)
    chosen = list(facts) if limit is None else list(facts)[: whole_number("limit", limit)]
    ranks, reader = Ranks(group, model.resolver.group), FactReader(model)
    drawn = GaussianNoise(level=noise, samples=samples, seed=seed, replace=replace, within=within)
    if ranks.rank == 0:
        ranks.led(FactFolder(out).make)
    level, told, notes = level_of_run(model, drawn, [fact.subject for fact in facts])
    options = {"window": window, "samples": samples, "seed": seed, "replace": replace}
    options |= {} if drawn.within is None else {"within": drawn.within}
    settings = {**options, "noise": str(noise), "noise_level": told}
    settings |= {"weights": fingerprint(model.net), "facts": digest([fact.to_dict() for fact in facts])}
    if whole and any(reader.is_several(fact) for fact in facts):
        settings |= {FactFolder.whole: True}  # a folder of facts of one token each is the same either way
    folder = FactFolder(out, settings, model.name)
    options |= {"noise": level, "engine": engine, "max_memory": max_memory, "progress": False}

    def make(batch: Sequence[Fact], missing: dict[str, list]) -> Iterator[Made]:
        for fact in batch:
            known = read_known(model, fact, first_token, reader)
            yield from _traced(model, fact, known, missing[fact.id], options, notes)

    filling = Filling(folder, ranks)
    filling.begin()
    filling.fill([[fact] for fact in chosen], kinds, make, progress)
    ids = [fact.id for fact in chosen]
    average = ranks.result(lambda: average_folder(folder, kinds, ids))
    if ranks.leads and ranks.rank == 0:
        folder.publish(average)
    return average


def averages(folder: str | os.PathLike, kinds: Iterable[str | None] = KINDS) -> AverageTrace:
    """The averages over all facts that a folder has traces of.

    Args:
        folder: what `facts.run` was given as `out`.
        kinds: None (one layer output at a time), "mlp", "attn"; all three by default.

    Returns:
        An `AverageTrace`, over the facts that have a trace of each of these kinds.

    Raises:
        LoadError: when it is not a folder of traces, or its settings are damaged.
        InputError: when no fact has a trace of each kind, or traces were made with other settings.

    Example:
        >>> import tempfile
        >>> from mlxtrace import InterpretableModel, facts
        >>> model = InterpretableModel("demo")
        >>> with tempfile.TemporaryDirectory() as out:
        ...     one = facts.run(model, facts.load()[:2], out, kinds=(None,), samples=1, progress=False)
        ...     again = facts.averages(out, kinds=(None,))
        >>> again.ids == one.ids
        True
    """
    return average_folder(FactFolder.there(folder), _kinds(kinds))


def _traced(
    model: TracedModel, fact: Fact, known: Known, kinds: list, options: dict[str, Any], notes: list[str]
) -> Iterator[Made]:
    """The traces of one fact in these kinds, or why it cannot be traced."""
    if known.prompt is None:
        yield Made(fact.to_dict(), why=known.why)
        return
    whole: dict[str, Any] = {} if known.answer is None else {"target": list(known.answer)}
    for kind in kinds:
        trace = causal_trace(model, known.prompt, kind=kind, **options, **whole)
        trace.notes, trace.settings = [*notes, *trace.notes], {}
        yield Made(fact.to_dict(), kind, trace)


def _kinds(kinds: Iterable[str | None] | str | None) -> list[str | None]:
    given = list(kinds) if isinstance(kinds, Iterable) and not isinstance(kinds, str) else [kinds]
    if not given or any(kind not in KINDS for kind in given) or len(set(given)) < len(given):
        raise InputError(
            f"kinds={kinds!r}: name one or more of None (layer outputs), 'mlp', 'attn', each once"
        )
    return given
