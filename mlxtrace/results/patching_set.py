"""Activation patching over many pairs: averages with their intervals, and the numbers of every pair.

result = model.activation_patching(pairs, positions="regions")
result.recovery, result.interval     # percent, and the half-width of its 95 % interval
result.per_pair                      # the metric's own values, an axis for the pairs before the others
"""

from __future__ import annotations

from collections.abc import Sequence

from .patching_result import PatchingResult


class PatchingSet(PatchingResult):
    """The recoveries of a set of pairs: mean over mean, with a 95 % interval over the pairs."""

    def __init__(
        self, singles: Sequence[PatchingResult], ids: Sequence[str], notes: Sequence[str] = ()
    ) -> None:
        self.singles, self.ids = list(singles), list(ids)
