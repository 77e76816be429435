"""Path patching over many pairs: means with their 95 % intervals, and the numbers of every pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .intervals import mean_of, ratio_of_means
from .one_kind import stacked
from .over_pairs import note_of_regions, notes_of, notes_of_gaps, plan_of, texts_of
from .path_result import PathResult
from .record_set import RecordSet

SAME = ("model", "metrics", "direction", "senders", "receivers", "positions")


def _traits(single: PathResult) -> dict[str, Any]:
    kept = {name: getattr(single, name) for name in SAME}
    return {**kept, "places": "regions" if single.regions is not None else "no regions"}


class PathSet(RecordSet, PathResult):
    """Paths of a set of pairs: effects are means over the pairs that have a cell, recoveries ratios of means.

    Args:
        singles: the results of the pairs, of one kind: same model, metrics, senders, receivers, positions, direction.
        ids: a name for each.
        notes: what is to be said of these numbers beside what is noted here.
        plan: what was run; default: that of the singles where it is one, else all of theirs.

    Attributes:
        per_pair: `{"raw": [pairs, *dims]}`, NaN where a pair has no such region.
        interval: the half-width of each recovery's 95 % interval, percent. effect_interval: of each effect.
        n: pairs per cell.

    Raises:
        InputError: for results that are not of one kind, with the odd one's id, and for ids given twice.
        EffectError: when the gap of the means is too small to mean anything.

    Example:
        >>> from mlxtrace import InterpretableModel, PathSet, prompts
        >>> model, foreign = InterpretableModel("demo"), "The Colosseum is in the city of"
        >>> clean = [f"The {place} is in the city of" for place in ("Eiffel Tower", "Louvre Museum")]
        >>> pairs = [prompts.Pair(one, foreign) for one in clean]
        >>> found = model.path_patching(pairs, senders="a5.h1", receivers="logits", metric="logit_diff", progress=False)
        >>> isinstance(found, PathSet), len(found.per_pair["raw"])
        (True, 2)
    """

    SINGLE = PathResult
    DIMS = ("sender", "receiver", "region")

    def __init__(
        self, singles: Sequence[PathResult], ids: Sequence[str], notes: Sequence[str] = (), plan: Any = None
    ) -> None:
        first = self._gather(singles, ids, notes, _traits)[0]
        regions = self._all_regions()
        self.per_pair = {"raw": self._stacked("raw")}
        names = first.metrics
        ends = np.array([[[s.clean_values[m], s.corrupted_values[m]] for m in names] for s in self.singles])
        self._ends = ends  # [pairs, metrics, 2]
        means = {name: pair.tolist() for name, pair in zip(names, ends.mean(0), strict=True)}
        super().__init__(
            raw=mean_of(self.per_pair["raw"]).value,
            reached=first.reached,
            clean_values={name: clean for name, (clean, _) in means.items()},
            corrupted_values={name: corrupted for name, (_, corrupted) in means.items()},
            plan=plan if plan is not None else plan_of(self.singles),
            regions=regions,
            **{name: getattr(first, name) for name in SAME},
            **texts_of(self.singles),
        )
        self.notes = list(dict.fromkeys([*notes, *self._own_notes()]))

    def _own_notes(self) -> list[str]:
        notes = notes_of(self.singles)
        if self.regions:
            notes += note_of_regions(self.regions, self.n, self.dims.index("region"))
        gaps = {name: self._ends[:, i, 0] - self._ends[:, i, 1] for i, name in enumerate(self.metrics)}
        small = [
            id for id, single in zip(self.ids, self.singles, strict=True) if np.isnan(single.recovery).any()
        ]
        return [*notes, *notes_of_gaps(gaps, self.ids, small)]

    def _stacked(self, name: str) -> np.ndarray:
        """The values of every pair `[pairs, *dims]`, regions by name; NaN where a pair lacks one."""
        arrays, regions = [getattr(single, name) for single in self.singles], self._all_regions()
        dims = [*[""] * (arrays[0].ndim - 1), "region"] if regions is not None else []
        return stacked(arrays, dims, [single.regions or [] for single in self.singles], regions or [])

    @classmethod
    def _made_of(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> PathSet:
        singles = []
        for own, values in zip(header["singles"], arrays["raw"], strict=True):
            labels = own["fields"].get("regions")
            mine = (
                values
                if labels is None
                else values[..., [header["regions"].index(label) for label in labels]]
            )
            singles.append(PathResult._made_of(own, {"raw": mine, "reached": arrays["reached"]}))
        return cls(singles, header["ids"], header["notes"], header["plan"])

    def _arrays(self) -> dict[str, np.ndarray]:
        return {"raw": self.per_pair["raw"], "reached": self.reached}

    # ---- numbers

    def _of_metric(self, values: np.ndarray) -> np.ndarray:
        """One number of each pair and metric `[pairs, metrics]`, to go with `[pairs, *dims]`."""
        rest = [1] * (3 if self.positions is not None or self.regions is not None else 2)
        return values.reshape(len(values), *([len(self.metrics)] if len(self.metrics) > 1 else []), *rest)

    def _changes(self, run: int) -> np.ndarray:
        """Each pair's metric less that of its clean (0) or corrupted (1) run."""
        return self.per_pair["raw"] - self._of_metric(self._ends[:, :, run])

    @property
    def effect(self) -> np.ndarray:
        """What a path changes: the mean of patched - base, pair by pair."""
        return mean_of(self._changes(int(self.direction != "noise"))).value

    @property
    def effect_interval(self) -> np.ndarray:
        """The half-width of the 95 % interval of `effect`; NaN where fewer than two pairs have the cell."""
        return mean_of(self._changes(int(self.direction != "noise"))).half

    def _ratio(self) -> Any:
        return ratio_of_means(self._changes(1), self._of_metric(self._ends[:, :, 0] - self._ends[:, :, 1]))

    @property
    def recovery(self) -> np.ndarray:
        """`100 * sum(patched - corrupted) / sum(clean - corrupted)` over the pairs that have a cell, percent."""
        self._by_metric(self._recovered)  # EffectError when the gap of the means is too small
        return 100 * self._ratio().value

    @property
    def interval(self) -> np.ndarray:
        """The half-width of each recovery's 95 % interval, percent; NaN where fewer than two pairs have the cell."""
        return 100 * self._ratio().half

    @property
    def n(self) -> np.ndarray:
        """How many pairs there are to a cell, shaped as `raw`."""
        return mean_of(self.per_pair["raw"]).n

    def _tables(self) -> list[np.ndarray]:
        return [*super()._tables(), self.effect_interval, self.interval]

    def _columns(self) -> list[str]:
        return [*super()._columns(), "effect_interval", "interval"]
