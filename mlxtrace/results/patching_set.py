"""Activation patching over many pairs: averages with their intervals, and the numbers of every pair.

result = model.activation_patching(pairs, positions="regions")
result.recovery, result.interval     # percent, and the half-width of its 95 % interval
result.per_pair                      # the metric's own values, an axis for the pairs before the others
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..metrics import floor, recovery
from .intervals import known, mean_of, ratio_of_means
from .one_kind import one_kind, place_of, stacked, union, unstacked
from .over_pairs import note_of_regions, notes_of, notes_of_gaps, plan_of, texts_of
from .patching_result import PatchingResult

# What a file of JSON says of the set, and of each of its pairs.
OF_THE_SET = (
    *("metrics", "components", "dims", "coords", "direction", "window", "model", "settings", "notes"),
    *("plan", "small_gaps"),
)
OF_A_PAIR = ("clean_text", "corrupted_text", "target", "foil", "clean", "corrupted")


def _traits(single: PatchingResult) -> dict[str, Any]:
    """What is the same for every pair of a set."""
    options = {
        name: single.settings.get(name)
        for name in ("positions", "within", "approximate", "source_model", "windows")
    }
    coords = {f"{dim}s": single.coords.get(dim) for dim in ("layer", "head", "position", "neuron")}
    same = ("model", "metrics", "components", "dims", "direction", "window")
    return {**{name: getattr(single, name) for name in same}, **coords, **options}


class PatchingSet(PatchingResult):
    """The recoveries of a set of pairs: mean over mean, with a 95 % interval over the pairs.

    Recovery is `100 * sum(patched - corrupted) / sum(clean - corrupted)` over the pairs that have a cell, in percent:
    the recovery of the means, in which a pair weighs as much as its gap. Each cell has an interval of its own: of a
    hundred cells without any effect about five seem to have one.

    Args:
        singles: the results of the pairs, of one kind: same model, metrics, components, layers, heads, direction.
            Their regions may differ.
        ids: a name for each.
        notes: what is to be said of these numbers beside what is noted here.
        plan: what was run; default: that of the singles where it is one, else all of theirs.

    Attributes:
        raw: the metric, mean over the pairs that have the cell. per_pair: of each pair, `[pairs, *dims]`, NaN where it
            lacks the cell.
        recovery, interval, low, high: in percent; the interval is half as wide as from low to high, NaN for one pair.
        n: pairs per cell.
        clean, corrupted: means over the pairs.
        small_gaps: ids of the pairs whose own gap is too small to mean anything. They count in the means.

    Raises:
        InputError: for results that are not of one kind, with the odd one's id, and for ids given twice.
        EffectError: when the gap of the means is too small to mean anything.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> from mlxtrace.results.patching_set import PatchingSet
        >>> model, foreign = InterpretableModel("demo"), "The Colosseum is in the city of"
        >>> prompts = [f"The {place} is in the city of" for place in ("Eiffel Tower", "Louvre Museum")]
        >>> singles = [model.activation_patching(clean, foreign, progress=False) for clean in prompts]
        >>> result = PatchingSet(singles, ["tower", "museum"])
        >>> result.recovery.shape == result.interval.shape == (model.n_layers,)
        True
        >>> gaps = sum(single.clean - single.corrupted for single in singles)
        >>> by_hand = 100 * sum(single.raw[3] - single.corrupted for single in singles) / gaps
        >>> bool(abs(result[3] - by_hand) < 1e-9), result.single("museum").target.text
        (True, ' Paris')
        >>> len(result.to_rows()) == model.n_layers
        True
    """

    SINGLE: ClassVar[type[PatchingResult]] = PatchingResult  # what the results of its pairs are

    def __init__(
        self,
        singles: Sequence[PatchingResult],
        ids: Sequence[str],
        notes: Sequence[str] = (),
        plan: Any = None,
    ) -> None:
        self.singles, self._ids = one_kind(singles, ids, PatchingResult, _traits)
        first, self._given_notes = self.singles[0], list(notes)
        regions = union(single.coords.get("region", ()) for single in self.singles)
        labels = [single.coords.get("region", ()) for single in self.singles]
        self._per_pair = stacked([single.raw for single in self.singles], first.dims, labels, regions)
        ends = np.array([[[s._clean[m], s._corrupted[m]] for m in s.metrics] for s in self.singles])
        means = dict(zip(first.metrics, ends.mean(0).tolist(), strict=True))
        super().__init__(
            raw=mean_of(self._per_pair).value,
            dims=first.dims,
            coords={**first.coords, **({"region": regions} if "region" in first.dims else {})},
            clean={metric: clean for metric, (clean, _) in means.items()},
            corrupted={metric: corrupted for metric, (_, corrupted) in means.items()},
            metrics=first.metrics,
            components=first.components,
            direction=first.direction,
            window=first.window,
            plan=plan if plan is not None else plan_of(self.singles),
            model=first.model,
            **texts_of(self.singles),
        )
        self.notes = list(dict.fromkeys([*self._given_notes, *self._own_notes()]))

    def _own_notes(self) -> list[str]:
        notes = notes_of(self.singles)
        if "region" in self.dims:
            notes += note_of_regions(self.coords["region"], self.n, self.dims.index("region"))
        gaps = {m: np.array([s._clean[m] - s._corrupted[m] for s in self.singles]) for m in self.metrics}
        notes += notes_of_gaps(gaps, self.ids, self.small_gaps)
        if np.isnan(self.recovery).any():
            notes.append(
                "where only some pairs have a region and their mean gap is too small, it has no recovery"
            )
        return notes

    def _recovery(self) -> np.ndarray:
        """The recovery of the means; its interval and the number of pairs are kept as well."""
        for metric in self.metrics:
            try:
                recovery(0.0, self._clean[metric], self._corrupted[metric], metric)
            except ValueError as error:  # an EffectError
                raise type(error)(f"over the {len(self.ids)} pairs of this set {error}") from None
        numerators, gaps = self._numerators_and_gaps()
        found = ratio_of_means(numerators, gaps)
        self._n, too_small = found.n, np.abs(mean_of(gaps).value) < self._least_gaps()
        self._interval = np.where(too_small, np.nan, 100 * found.half)
        return np.where(too_small, np.nan, 100 * found.value)

    def _numerators_and_gaps(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each pair what a cell changes, `patched - corrupted`, and its `clean - corrupted`: `[pairs, *dims]`."""
        clean, corrupted = (self._of_pairs(run) for run in ("_clean", "_corrupted"))
        gaps = np.where(np.isnan(self._per_pair), np.nan, clean - corrupted)
        return self._per_pair - corrupted, gaps

    def _of_pairs(self, run: str) -> np.ndarray:
        """Each pair's value in a plain run, with axes of length 1 but for the pairs and the metrics."""
        values = np.array([[getattr(single, run)[m] for m in self.metrics] for single in self.singles])
        shape = [len(self.metrics) if dim == "metric" else 1 for dim in self.dims]
        return values.reshape(len(self.singles), *shape)

    def _least_gaps(self) -> np.ndarray:
        """The smallest mean gap that means anything, shaped as `raw`: a part of the pairs may have a smaller one."""
        least = [floor(m, self._clean[m], self._corrupted[m]) for m in self.metrics]
        shape = [len(least) if dim == "metric" else 1 for dim in self.dims]
        return np.broadcast_to(np.reshape(least, shape), self.raw.shape)

    @property
    def ids(self) -> list[str]:
        """The pairs' names, in order."""
        return self._ids

    @property
    def per_pair(self) -> np.ndarray:
        """The metric's own values of each pair, `[pairs, *dims]`; NaN where a pair has no such region."""
        return self._per_pair

    @property
    def n(self) -> np.ndarray:
        """How many pairs there are to a cell, shaped as `recovery`."""
        return self._n

    @property
    def interval(self) -> np.ndarray:
        """The half-width of each recovery's 95 % interval, percent; NaN where fewer than two pairs have the cell."""
        return self._interval

    @property
    def samples(self) -> Any:
        """How many samples of noise each cell of each pair had, a list over the pairs; a number where all are alike."""
        every = [single.samples for single in self.singles]
        alike = isinstance(every[0], int) and len(set(every)) == 1
        return every[0] if alike else every

    @property
    def small_gaps(self) -> list[str]:
        """The pairs whose own gap, in any metric, is too small to mean anything."""
        named = zip(self.ids, self.singles, strict=True)
        return [name for name, single in named if np.isnan(single.recovery).any()]

    def single(self, which: str | int) -> PatchingResult:
        """The result of one pair.

        Args:
            which: its id, or its number.

        Returns:
            Its `PatchingResult`.

        Raises:
            InputError: for a pair that is not in the set.
        """
        return self.singles[place_of(which, self.ids)]

    def to_rows(self) -> list[dict[str, Any]]:
        """The cells as a table, as for one pair, and the pairs that each rests on.

        Returns:
            One dict per cell: what `PatchingResult.to_rows` has, then n, and low and high, the ends of the first
            metric's interval in percent (None for one pair); with several metrics `<metric>_low` and `<metric>_high`.
        """
        return self._rows()

    def _rows(self, at: np.ndarray | None = None) -> list[dict[str, Any]]:
        rows = super()._rows(at)
        n, low, high = (self._by_cell(x, at) for x in (self.n, self.low, self.high))
        before = [f"{metric}_" for metric in self.metrics] if len(self.metrics) > 1 else [""]
        for i, row in enumerate(rows):
            row["n"] = int(n[i, 0])
            for j, metric in enumerate(before):
                row[f"{metric}low"], row[f"{metric}high"] = known(low[i, j]), known(high[i, j])
        return rows

    # -- to keep ---------------------------------------------------------------------------------

    def _header(self) -> dict[str, Any]:
        regions, singles = self.coords.get("region", []), [single._header() for single in self.singles]
        kept = {"ids": self.ids, "notes": self._given_notes, "plan": self.plan}
        return {**kept, "regions": regions, "singles": singles}

    def _arrays(self) -> dict[str, np.ndarray]:
        return {"per_pair": self.per_pair}

    def _contents(self) -> dict[str, Any]:
        """For JSON: the set in short, and each pair's prompts and answers."""
        pairs = [
            {"id": name, **{key: single._header()[key] for key in OF_A_PAIR}}
            for name, single in zip(self.ids, self.singles, strict=True)
        ]
        told = {name: getattr(self, name) for name in OF_THE_SET}
        return {
            **told,
            "clean": self._clean,
            "corrupted": self._corrupted,
            "interval": self.INTERVAL,
            "pairs": pairs,
        }

    @classmethod
    def _made_of(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> PatchingSet:
        singles = []
        for own, values in zip(header["singles"], arrays["per_pair"], strict=True):
            raw = unstacked(values, own["dims"], own["coords"].get("region"), header["regions"])
            singles.append(cls.SINGLE._made_of(own, {"raw": raw}))
        return cls(singles, header["ids"], header["notes"], header["plan"])
