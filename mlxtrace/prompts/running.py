"""A folder of causal traces: one file for each fact and kind, begun once, resumed as often as need be.

    out/settings.json              what the folder was begun with; anything else is refused
    out/traces/0007.mlp.npz        the trace of one fact, with its provenance
    out/traces/0012.skipped.json   a fact that the model gets wrong, and what it says instead
    out/average.npz .txt .csv, average.png, average_lines.png

Files are written whole or not at all, so a run may be killed at any moment: what is there is kept, and the next
run does the rest. Under `mlx.launch` the facts are spread over the ranks, and rank 0 averages.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from tqdm import tqdm

from .. import checksums, metrics
from ..arguments import whole_number
from ..engine.corruption import GaussianNoise
from ..engine.runs import Run, capture
from ..errors import InputError, PositionError, TokenError
from ..experiments import caveats
from ..experiments.causal_trace import KINDS, causal_trace, spread
from ..experiments.protocol import TracedModel
from ..plotting.labels import probability, quoted
from ..storage import plain
from ..text.prompt import Prompt
from ..version import VERSION
from .averages import AverageTrace
from .run_folder import Folder, digest

if TYPE_CHECKING:
    from .facts import Fact

LAUNCHED = ("MLX_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")  # set for the processes of a distributed run


def run_facts(
    model: TracedModel,
    facts: Sequence[Fact],
    out: str | os.PathLike,
    kinds: Iterable[str | None] = KINDS,
    *,
    samples: int = 10,
    noise: str | float = "s3",
    window: int = 10,
    seed: int = 1,
    replace: bool = False,
    limit: int | None = None,
    engine: str = "auto",
    max_memory: int | None = None,
    progress: bool | None = None,
    group: mx.distributed.Group | None = None,
) -> AverageTrace:
    """Trace every fact that the model gets right, into a folder, and average (Meng et al. 2022, section 2.2).

    A fact counts as right when the clean run's top token is the first of the attribute. Facts that are wrong, or
    whose subject cannot be found in the tokens, are recorded and skipped. A level such as "s3" is in standard
    deviations of the embeddings of all the facts' subjects, each tokenized alone, as in the authors' code.

    Args:
        out: the folder; begun if need be, resumed if it was begun with the same model, facts and settings.
        kinds: None (single states), "mlp", "attn" (windows of `window` layers); all three by default.
        samples, noise, window, seed, replace, engine, max_memory: as in `causal_trace`.
        limit: trace the first so many facts only; a later run may go further.
        group: a distributed group; default: the one that `mlx.launch` started, if it did.

    Returns the averages, on every rank. Raises InputError when the folder was begun with other settings, or the
    model gets no fact right.
    """
    kinds = _kinds(kinds)
    whole_number("window", window)
    chosen = list(facts) if limit is None else list(facts)[: whole_number("limit", limit)]
    if group is None and any(name in os.environ for name in LAUNCHED):
        group = mx.distributed.init()
    rank, size = (0, 1) if group is None else (group.rank(), group.size())
    drawn = GaussianNoise(level=noise, samples=samples, seed=seed, replace=replace)
    if rank == 0:
        Folder(out).make()
    std, notes = spread(model, drawn, _readable(model, [fact.subject for fact in facts]))
    level = noise if std is None else drawn.parsed_level.value * std
    settings = {
        "samples": samples,
        "noise": str(noise),
        "noise_level": float(level) if std is not None else str(drawn.parsed_level),
        "window": int(window),
        "seed": seed,
        "replace": replace,
        "weights": fingerprint(model),
        "facts": digest([fact.to_dict() for fact in facts]),
    }
    folder = Folder(out, settings, model.name)
    if rank == 0:
        folder.begin()
    _barrier(group)
    folder.check()
    options = {"window": window, "samples": samples, "noise": level, "seed": seed, "replace": replace}
    options |= {"engine": engine, "max_memory": max_memory, "progress": False}
    mine = chosen[rank::size]
    for fact in tqdm(mine, unit="fact", disable=None if progress is None else not progress):
        _trace_fact(model, fact, kinds, folder, options, notes)
    _barrier(group)
    average = folder.average(kinds, [fact.id for fact in chosen])
    if rank == 0:
        folder.publish(average)
    return average


def averages(folder: str | os.PathLike, kinds: Iterable[str | None] = KINDS) -> AverageTrace:
    """The averages over all facts that a folder holds traces of, of each of these kinds."""
    return Folder(folder).average(_kinds(kinds))


def fingerprint(model: TracedModel) -> str:
    """A hash of every number of the weights and where it stands, and of the configuration; 0.5 s per GB."""
    config = getattr(model.net, "args", None)
    told = [plain(config) if dataclasses.is_dataclass(config) else None]
    for path, module in model.net.named_modules():
        if hasattr(module, "bits"):
            told.append(
                [path, module.bits, getattr(module, "group_size", None), getattr(module, "mode", None)]
            )
    weights = dict(tree_flatten(model.net.parameters()))
    return checksums.of_arrays(weights, json.dumps(plain(told), sort_keys=True))[:16]


def _readable(model: TracedModel, subjects: list[str]) -> list[Any]:
    """The ids of the subjects that the tokenizer can read; a fact of another one is skipped when its turn comes."""
    found = {}
    for subject in set(subjects):
        with suppress(TokenError):
            found[subject] = model.ids(subject)
    return [found[subject] for subject in subjects if subject in found] or subjects


def _trace_fact(
    model: TracedModel, fact: Fact, kinds: list, folder: Folder, options: dict, notes: list[str]
) -> None:
    """Trace one fact in every kind that has no file yet; record why not when it cannot be traced."""
    if folder.skipped(fact.id) is not None:
        return
    missing = [kind for kind in kinds if folder.trace(fact.id, kind) is None]
    if not missing:
        return
    try:
        prompt = model.prompt(fact.prompt)
        why = _wrong(model, fact, prompt)
        if not why:
            prompt = prompt.with_subject(fact.subject)
    except (InputError, PositionError) as error:  # of this fact; the settings were checked before
        why = str(error)
    if why:
        folder.skip(fact, why)
        return
    for kind in missing:
        trace = causal_trace(model, prompt, kind=kind, **options)
        patched = [(kind or "resid_post", layer) for layer in range(model.n_layers)]
        trace.notes = [*notes, *caveats.cautions(model.resolver, patched)]
        trace.settings = {
            "fact": fact.to_dict(),
            **folder.settings,
            "hash": folder.hash,
            "versions": versions(),
        }
        folder.save(fact.id, kind, trace)


def _wrong(model: TracedModel, fact: Fact, prompt: Prompt) -> str:
    """What the model says instead of the attribute; '' when its top token starts the attribute."""
    logits = capture(model.resolver, Run(prompt.ids), [])[0][0]
    top = int(logits.argmax())
    if _starts(model, fact, prompt, top):
        return ""
    p = float(metrics.softmax(logits)[top])
    return (
        f"the model says {quoted(model.token_to_str(top))} ({probability(p)}), not {quoted(fact.attribute)}"
    )


def _starts(model: TracedModel, fact: Fact, prompt: Prompt, token: int) -> bool:
    """Whether the attribute starts with this token behind the prompt, with a space before it or none.

    Where the tokenizer leaves that open (it splits the space off, say) the token's text decides.
    """
    text, known = model.token_to_str(token).strip(), False
    for attribute in (f" {fact.attribute}", fact.attribute):
        try:
            if model.answer_token(attribute, prompt) == token:
                return True
            known = True
        except TokenError:
            continue
    return text == fact.attribute or (not known and text != "" and fact.attribute.startswith(text))


def versions() -> dict[str, str]:
    """The versions of what made the numbers."""
    found = {"mlxtrace": VERSION, "python": platform.python_version(), "numpy": np.__version__}
    for name in ("mlx", "mlx-lm"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def _kinds(kinds: Iterable[str | None] | str | None) -> list[str | None]:
    given = list(kinds) if isinstance(kinds, Iterable) and not isinstance(kinds, str) else [kinds]
    if not given or any(kind not in KINDS for kind in given) or len(set(given)) < len(given):
        raise InputError(
            f"kinds={kinds!r}: name one or more of None (single states), 'mlp', 'attn', each once"
        )
    return given


def _barrier(group: mx.distributed.Group | None) -> None:
    """Wait for all ranks."""
    if group is not None and group.size() > 1:
        mx.eval(mx.distributed.all_sum(mx.ones(1), group=group, stream=mx.cpu))
