"""Sets of results that are records: kept in one file as the headers of their pairs and arrays with an axis for these.

class EffectsSet(RecordSet, CausalEffects): ...     # the set first, as it prints and is saved in its own way
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from .one_kind import one_kind, place_of, stacked, union, unstacked


class RecordSet:
    """What sets of records share: pairs by name, and how they are kept.

    SINGLE: the class of one result. DIMS: the axes of its arrays.
    """

    SINGLE: ClassVar[Any]
    DIMS: ClassVar[tuple[str, ...]]
    singles: list[Any]
    per_pair: Any
    _ids: list[str]
    _given_notes: list[str]
    plan: Any = None

    def _gather(
        self, singles: Any, ids: Any, notes: Sequence[str], traits: Callable[[Any], Mapping]
    ) -> list[Any]:
        """Keep the results of the pairs, once they are of one kind: the same `traits`."""
        self.singles, self._ids = one_kind(singles, ids, self.SINGLE, traits)
        self._given_notes = list(notes)
        return self.singles

    def _stacked(self, name: str) -> np.ndarray:
        """An array of every pair, `[pairs, ...]`, regions by name; NaN where a pair lacks one."""
        arrays, regions = [getattr(single, name) for single in self.singles], self._all_regions()
        if regions is None:
            return np.stack(arrays)
        return stacked(arrays, self.DIMS, [single.regions for single in self.singles], regions)

    def _all_regions(self) -> list[str] | None:
        """The regions of any pair, in order; None where there are none."""
        if getattr(self.singles[0], "regions", None) is None:
            return None
        return union(single.regions for single in self.singles)

    @property
    def ids(self) -> list[str]:
        """The pairs' names, in order."""
        return self._ids

    def single(self, which: str | int) -> Any:
        """The result of one pair.

        Args:
            which: its id, or its number.

        Returns:
            Its own result.

        Raises:
            InputError: for a pair that is not in the set.
        """
        return self.singles[place_of(which, self.ids)]

    def _header(self) -> dict[str, Any]:
        singles = [single._header() for single in self.singles]
        kept = {
            "ids": self.ids,
            "notes": self._given_notes,
            "plan": self.plan,
            "regions": self._all_regions(),
        }
        return {**kept, "singles": singles}

    def _arrays(self) -> dict[str, np.ndarray]:
        return dict(self.per_pair)

    def _contents(self) -> dict[str, Any]:
        """For JSON: the set in short, and each pair's header."""
        fields: Sequence[Any] = dataclasses.fields(self.SINGLE)
        told = {f.name: getattr(self, f.name) for f in fields}
        told = {name: value for name, value in told.items() if not isinstance(value, np.ndarray)}
        singles = zip(self.ids, self.singles, strict=True)
        pairs = [{"id": name, **single._contents()} for name, single in singles]
        return {**told, "pairs": pairs}

    @classmethod
    def _made_of(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
        singles = []
        for i, own in enumerate(header["singles"]):
            labels = own["fields"].get("regions")
            mine = {k: unstacked(x[i], cls.DIMS, labels, header["regions"]) for k, x in arrays.items()}
            singles.append(cls.SINGLE._made_of(own, mine))
        return cls(singles, header["ids"], header["notes"], header["plan"])  # type: ignore[call-arg]
