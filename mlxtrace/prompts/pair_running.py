"""An experiment over pairs, into a folder: a file for each pair, begun once, resumed as often as need be.

    out/settings.json            what the folder was begun with; anything else is refused
    out/pairs/0007.npz           the result of one pair, with its provenance
    out/pairs/0012.skipped.json  a pair that cannot be used, and why
    out/average.npz .txt .csv .png

Files are written whole or not at all, so a run may be killed at any moment: what is there is kept, and the next run
does the rest. Under `mlx.launch` the pairs are spread over the ranks. Processes that hold one model together count as
one; the first of them reads and writes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..arguments import whole_number
from ..errors import InputError, MlxtraceError
from .filling import Filling, Made, Ranks
from .pair_calls import Calls
from .pair_lists import Pair, digest_of, fields_of, named
from .pair_reading import any_of_several
from .pair_results import PairFolder, kind_of

MOST = 16  # pairs of a batch, which is what a killed run may have to do again


def run(
    model: Any,
    pairs: Any,
    experiment: str = "activation_patching",
    out: str | os.PathLike | None = None,
    *,
    corrupted: Any = None,
    limit: int | None = None,
    group: Any = None,
    progress: bool | None = None,
    **options: Any,
) -> Any:
    """Run an experiment on every pair, into a folder, and average. A run that was stopped goes on where it stood.

    Pairs that cannot be read (prompts that do not line up, a subject that is not there, answers that are no tokens)
    are recorded with the reason, left out, and named in the notes of what is returned.

    Args:
        model: an InterpretableModel.
        pairs: a list of `Pair`s, or of prompts; or what `prompts.load` takes ("ioi", a file). The folder is begun with
            all of them: a longer list is another one, so give the whole list and go through it by `limit`.
        experiment: "activation_patching", "causal_effects", "noising_window" or "causal_trace".
        out: the folder; begun if need be, resumed if it was begun with the same model, pairs and options.
        corrupted: how all pairs without a corrupted prompt are corrupted: `GaussianNoise(...)`.
        limit: run the first so many pairs only; a later run may go further.
        group: a distributed group; default: that of `mlx.launch`, whose processes share the pairs.
        progress: True or False for a bar with the time left; None: in a terminal or notebook.
        options: of the experiment, but for what each pair has of its own. engine and max_memory may be others when a
            run is resumed. The metric "auto" is prob here; functions are known by their code. A causal trace's noise
            level such as "s3" is in standard deviations of the embeddings of all the pairs' subjects.

    Returns:
        What the experiment itself returns for a list: a `PatchingSet`, `EffectsSet` or `NoisingWindowSet`, and of
        causal traces an `AverageTrace`; on every rank. The folder has it as average.npz, .csv, .txt and .png.

    Raises:
        InputError: for options that mean nothing, before anything is written; when the folder was begun with another
            model, other pairs or options; when no pair can be used, or nothing can be written there.

    Example:
        >>> import tempfile
        >>> from mlxtrace import InterpretableModel, prompts
        >>> model = InterpretableModel("demo")
        >>> sights = {"Eiffel Tower": " Paris", "Colosseum": " Rome"}
        >>> pairs = [
        ...     prompts.Pair(f"The {sight} is in the city of", "The Statue of Liberty is in the city of", city)
        ...     for sight, city in sights.items()
        ... ]
        >>> with tempfile.TemporaryDirectory() as out:
        ...     result = prompts.run(model, pairs, out=out, component="resid_post", align="ends", progress=False)
        ...     again = prompts.averages(out)
        >>> result.ids, bool((again.recovery == result.recovery).all())
        (['0000', '0001'], True)
    """
    kind_of(experiment)
    if not hasattr(model, "resolver"):
        raise InputError(f"prompts.run runs experiments on an InterpretableModel, not on {model!r}")
    if out is None:
        raise InputError("name the folder that the results go into: out='results'")
    listed = named(pairs, corrupted, model)
    chosen = listed if limit is None else listed[: whole_number("limit", limit)]
    calls = Calls(model, experiment, options)
    _check_corrupted(listed, experiment, corrupted)
    calls.scale([pair.subject for pair in listed])
    settings = {**calls.settings, "pairs": digest_of(listed)}
    if any_of_several(model, listed):
        settings[PairFolder.whole] = True  # what was scored before was the first token of each
    folder = PairFolder(out, settings, model.name, [pair.id for pair in listed])
    ranks = Ranks(group, model.resolver.group)
    ranks.led(folder.compare)
    filling = Filling(folder, ranks)
    most = min(MOST, math.ceil(len(chosen) / ranks.size))
    batches = batched(model, chosen, calls, most)
    filling.fill(batches, [None], lambda batch, missing: _made(calls, batch, missing), progress)
    ids = [pair.id for pair in chosen]
    result = ranks.result(lambda: folder.together(ids))
    if ranks.leads and ranks.rank == 0:
        folder.publish(result)
    return result


def _check_corrupted(pairs: Sequence[Pair], experiment: str, corrupted: Any) -> None:
    """InputError for pairs without a corrupted prompt where one is needed, and for noise where none is."""
    if experiment in ("causal_trace", "noising_window"):
        if corrupted is not None:
            raise InputError(f"{experiment} draws its own noise: leave corrupted= out, and give its options")
        return
    without = [pair.id for pair in pairs if pair.corrupted is None]
    if without:
        raise InputError(
            f"{len(without)} of {len(pairs)} pairs have no corrupted prompt, such as {without[0]}: give them one, or "
            "corrupted=GaussianNoise(...) for all"
        )


def batched(model: Any, pairs: Sequence[Pair], calls: Calls, most: int) -> list[list[Pair]]:
    """The pairs in batches of so many at most, of prompts of the same lengths, because those can share passes.

    InputError when each position is asked for, and pairs differ in length.
    """
    lengths = {pair.id: _lengths(model, pair) for pair in pairs}
    alike: dict[Any, list[Pair]] = {}
    for pair in pairs:
        alike.setdefault(lengths[pair.id] if calls.together else pair.id, []).append(pair)
    strict = calls.settings.get("align", "ends") == "strict"
    found = {n for n in lengths.values() if n is not None and (not strict or n[0] == n[1])}
    if calls.together and calls.settings["positions"] == "each" and len(found) > 1:
        told = ", ".join(
            str(clean) if clean == other else f"{clean} and {other}" for clean, other in sorted(found)
        )
        raise InputError(
            f'positions="each" needs pairs of one length, but these have {told} tokens: use positions="regions", or a '
            "folder for each length"
        )
    return [some[at : at + most] for some in alike.values() for at in range(0, len(some), most)]


def _lengths(model: Any, pair: Pair) -> tuple[int, int] | None:
    """The tokens of the clean and of the corrupted prompt; None when they cannot be read, which the experiment says."""
    try:
        clean = len(model.prompt(pair.clean))
        other = getattr(pair.corrupted, "text", pair.corrupted)
        return clean, clean if other is None or hasattr(other, "level") else len(model.prompt(other))
    except MlxtraceError:
        return None


def _made(calls: Calls, batch: Sequence[Pair], missing: Mapping[str, list]) -> Iterator[Made]:
    """What comes of the pairs of a batch that have no file yet; the others are run again beside them.

    So the numbers of a pair never depend on where a run was stopped: rows of another batch round otherwise.
    """
    for pair, (result, why) in zip(batch, calls.on(batch), strict=True):
        if missing[pair.id]:
            yield Made(fields_of(pair), None, result, why)
