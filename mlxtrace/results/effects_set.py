"""Causal effects over many pairs: means with their 95 % intervals, and the numbers of every pair.

effects = model.causal_effects(pairs)
effects.direct, effects.direct_interval      # the mean over the pairs, and the half-width of its 95 % interval
effects.per_pair["direct"]                   # [pairs, layers]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .causal_effects_result import EFFECTS, CausalEffects
from .intervals import known, mean_of
from .over_pairs import answer_of, note_of_regions, notes_of, plan_of, several, shared, tokens_of
from .record_set import RecordSet

SAME = ("model", "component", "metric", "layers", "positions", "window", "within")


def _traits(single: CausalEffects) -> dict[str, Any]:
    kept = {name: getattr(single, name) for name in SAME}
    kept["asked positions"] = single.settings.get("positions")
    return {**kept, "places": "regions" if single.regions is not None else "no regions"}


class EffectsSet(RecordSet, CausalEffects):
    """Causal effects of a set of pairs: means over the pairs that have a cell, with 95 % intervals (1.96 s / sqrt(n)).

    Args:
        singles: the effects on the pairs, of one kind: same model, component, layers, positions and metric.
        ids: a name for each.
        notes: what is to be said of these numbers beside what is noted here.
        plan: what was run; default: that of the singles where it is one, else all of theirs.

    Attributes:
        direct, indirect: means. direct_interval, indirect_interval: the half-widths of their intervals.
        direct_change, direct_change_interval: the mean of direct - base_value, pair by pair, and its half-width.
        natural_indirect, natural_direct: the literature's effects (see `CausalEffects`), means of the pairs' own, each
            with its `_interval`. Where every pair has a cell, `natural_direct + indirect` is `change` there.
        per_pair: {"direct": `[pairs, layers]` or `[pairs, layers, regions]`, "indirect": the same}; NaN where a pair
            has no such region.
        n: pairs per cell.

    Raises:
        InputError: for results that are not of one kind, with the odd one's id, and for ids given twice.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> from mlxtrace.results.effects_set import EffectsSet
        >>> model, base = InterpretableModel("demo"), "The Colosseum is in the city of"
        >>> sources = [f"The {place} is in the city of" for place in ("Eiffel Tower", "Louvre Museum")]
        >>> singles = [model.causal_effects(base, source, "mlp", progress=False) for source in sources]
        >>> effects = EffectsSet(singles, ["tower", "museum"])
        >>> effects.per_pair["direct"].shape == (2, model.n_layers)
        True
        >>> bool(abs(effects.direct[3] - (singles[0].direct[3] + singles[1].direct[3]) / 2) < 1e-12)
        True
        >>> len(effects.to_rows()) == model.n_layers, effects.to_rows()[0]["n"]
        (True, 2)
    """

    SINGLE, DIMS = CausalEffects, ("layer", "region")

    def __init__(
        self,
        singles: Sequence[CausalEffects],
        ids: Sequence[str],
        notes: Sequence[str] = (),
        plan: Any = None,
    ) -> None:
        first = self._gather(singles, ids, notes, _traits)[0]
        regions = self._all_regions()
        self.per_pair = {name: self._stacked(name) for name in ("direct", "indirect")}
        base = np.array([single.base_value for single in self.singles])
        source = np.array([single.source_value for single in self.singles])
        base, source = (values.reshape(-1, *[1] * first.direct.ndim) for values in (base, source))
        self._found = {name: mean_of(values) for name, values in self.per_pair.items()}
        self._found["direct_change"] = mean_of(self.per_pair["direct"] - base)
        self._found["natural_indirect"] = self._found["direct_change"]
        self._found["natural_direct"] = mean_of((source - self.per_pair["indirect"]) - base)
        for name in ("change", "total"):
            self._found[name] = mean_of([getattr(single, name) for single in self.singles])
        super().__init__(
            direct=self._found["direct"].value,
            indirect=self._found["indirect"].value,
            base_value=float(base.mean()),
            source_value=float(np.mean([single.source_value for single in self.singles])),
            base_answer=answer_of([single.base_answer for single in self.singles]),
            source_answer=answer_of([single.source_answer for single in self.singles]),
            tokens=tokens_of([single.tokens for single in self.singles]),
            base_tokens=tokens_of([single.base_tokens for single in self.singles]),
            subject_range=shared([single.subject_range for single in self.singles]),
            base_text=several([single.base_text for single in self.singles]),
            source_text=several([single.source_text for single in self.singles]),
            plan=plan if plan is not None else plan_of(self.singles),
            notes=list(dict.fromkeys([*notes, *self._own_notes(regions)])),
            regions=regions,
            settings={"positions": first.settings.get("positions")},
            **{name: getattr(first, name) for name in SAME},
        )

    def _own_notes(self, regions: list[str] | None) -> list[str]:
        notes = notes_of(self.singles)
        return [*notes, *note_of_regions(regions, self.n, 1)] if regions else notes

    @property
    def n(self) -> np.ndarray:
        """How many pairs there are to a cell, shaped as `direct`."""
        return self._found["direct"].n

    @property
    def direct_interval(self) -> np.ndarray:
        """The half-width of the 95 % interval of `direct`; NaN where fewer than two pairs have the cell."""
        return self._found["direct"].half

    @property
    def indirect_interval(self) -> np.ndarray:
        """The half-width of the 95 % interval of `indirect`."""
        return self._found["indirect"].half

    @property
    def direct_change(self) -> np.ndarray:
        """What the source's activation adds in the base run: the mean of direct - base_value, pair by pair."""
        return self._found["direct_change"].value

    @property
    def direct_change_interval(self) -> np.ndarray:
        """The half-width of the 95 % interval of `direct_change`."""
        return self._found["direct_change"].half

    @property
    def natural_indirect_interval(self) -> np.ndarray:
        """The half-width of the 95 % interval of `natural_indirect`."""
        return self._found["natural_indirect"].half

    @property
    def natural_direct(self) -> np.ndarray:
        """The natural direct effect: the mean of (source_value - indirect) - base_value, pair by pair."""
        return self._found["natural_direct"].value

    @property
    def natural_direct_interval(self) -> np.ndarray:
        """The half-width of the 95 % interval of `natural_direct`."""
        return self._found["natural_direct"].half

    @property
    def total(self) -> float:
        """The mean of the pairs' totals."""
        return float(self._found["total"].value)

    @property
    def halves(self) -> dict[str, np.ndarray]:
        """Half-widths of the 95 % intervals: of the effects of cells, change and total."""
        return {name: found.half for name, found in self._found.items()}

    def to_rows(self) -> list[dict[str, Any]]:
        """The cells as a table, as for one pair, then n and the ends of the intervals (None for one pair)."""
        rows = super().to_rows()
        for row, index in zip(rows, np.ndindex(*self.direct.shape), strict=True):
            row["n"] = int(self.n[index])
            for name in EFFECTS:
                value, half = (float(part[index]) for part in self._found[name][:2])
                row[f"{name}_low"], row[f"{name}_high"] = known(value - half), known(value + half)
        return rows
