"""The results of pairs in a folder, by experiment: how a file is read, and what they all come to."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, closest
from ..results.effects_set import CausalEffects, EffectsSet
from ..results.noising_window_set import NoisingWindow, NoisingWindowSet
from ..results.patching_set import PatchingResult, PatchingSet
from .averages import AverageTrace, CausalTrace, average_traces
from .run_folder import Folder

SHOWN = 3  # skipped pairs that a note gives the reasons of


@dataclass(frozen=True)
class Kind:
    """The class of an experiment's result for one pair, and what those of many make together."""

    single: type
    together: Callable[[list[Any], list[str], list[str]], Any]


KINDS = {
    "activation_patching": Kind(PatchingResult, PatchingSet),
    "causal_effects": Kind(CausalEffects, EffectsSet),
    "noising_window": Kind(NoisingWindow, NoisingWindowSet),
    "causal_trace": Kind(CausalTrace, lambda traces, ids, _: average_traces([[t] for t in traces], ids)),
}


def kind_of(experiment: Any) -> Kind:
    """What an experiment makes; InputError for a name that is none."""
    if not isinstance(experiment, str) or experiment not in KINDS:
        raise InputError(f"experiment={experiment!r} is unknown; {closest(str(experiment), KINDS)}")
    return KINDS[experiment]


class PairFolder(Folder):
    """The files of one run over pairs; the experiment is that of the settings, or what the folder was begun with."""

    item, items, room = "pair", "pairs", "pairs"
    texts = ("id", "prompt", "why")

    def __init__(
        self,
        path: str | os.PathLike,
        settings: dict[str, Any] | None = None,
        model: str = "",
        ids: list[str] | None = None,
    ):
        super().__init__(path, settings, model, ids)
        self.kind = kind_of((self.begun()["settings"] if settings is None else settings).get("experiment"))

    def load(self, path: Path) -> Any:
        """The result in a file; LoadError when there is none, or it is damaged."""
        return self.kind.single.load(path)

    def is_complete(self, result: Any) -> bool:
        """Whether it is the result of one pair, not of a set."""
        return type(result) is self.kind.single

    def together(self, ids: list[str] | None = None) -> Any:
        """The set of the results of these pairs, or all; InputError when there is none.

        Those that were skipped are named in its notes, and those that have no result yet are counted.
        """
        begun = self.begun()
        found, skipped = self.everything() if ids is None else self.some(ids, [None])
        wanted = begun.get("ids", sorted(found)) if ids is None else ids
        there = [id for id in wanted if found.get(id)]
        if not there:
            first = f", such as {skipped[0]['id']}: {skipped[0]['why']}" if skipped else ""
            raise InputError(f"{self.path}: none of {len(wanted)} pairs can be used{first}")
        notes = notes_on(skipped, len(wanted), len(wanted) - len(there) - len(skipped))
        singles = [found[id][None] for id in there]
        average = self.kind.together(singles, there, [*notes, *_note_of_copies(singles)])
        if isinstance(average, AverageTrace):
            average.skipped, average.folder = skipped, str(self.path)
            average.settings = {**begun["settings"], "hash": begun["hash"]}
        return average


def _note_of_copies(singles: list[Any]) -> list[str]:
    """A sentence when pairs occur more than once under several names."""
    kept = [repr({**single.settings["pair"], "id": ""}) for single in singles]
    copies = len(kept) - len(set(kept))
    if not copies:
        return []
    return [
        f"{copies} of {len(kept)} pairs are copies of others: each counts, and for the interval as another one"
    ]


def notes_on(skipped: list[dict[str, Any]], n: int, missing: int) -> list[str]:
    """What is to be said of the pairs of a run that are not in its averages. n: the number of all pairs."""
    notes = []
    if skipped:
        told = "; ".join(
            f"{record['id']} ({record['why'].splitlines()[0].rstrip(':')})" for record in skipped[:SHOWN]
        )
        more = [record["id"] for record in skipped[SHOWN:]]
        rest = f"; and {', '.join(more)}" if more else ""
        notes.append(f"{len(skipped)} of {n} pairs left out: {told}{rest}")
    if missing:
        notes.append(f"{missing} of {n} pairs have no result yet: the run that makes them is not done")
    return notes
