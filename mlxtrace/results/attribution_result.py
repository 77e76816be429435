"""Estimates of activation patching from gradients: results that say, wherever they go, that they are approximate."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .patching_set import PatchingResult, PatchingSet


class AttributionResult(PatchingResult):
    """What a patch of each cell would do, as gradients have it: approximate, and a mapping `{layer: recovery %}`.

    `raw` is the base run's value and the estimated change, `recovery` that in percent, as of `PatchingResult`; rows of
    tables and files name the method under `approximate`, and titles begin with it.

    Attributes:
        scores: the estimated change of the metric, with the axes of `raw`.
        method: "atp", "atp*" or "ig".

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> result = model.attribution_patching(*prompts, metric="logit_diff", progress=False)
        >>> print(repr(result).splitlines()[0])
        Approximate (atp): restoring the MLP output (whole sequence)
        >>> result.to_rows()[0]["approximate"]
        'atp'
    """

    @property
    def method(self) -> str:
        """How the estimates were made: "atp", "atp*" or "ig"."""
        return self.settings["approximate"]

    @property
    def scores(self) -> np.ndarray:
        """The estimated change of the metric, `patched - base`, in its own unit; shaped as `raw`."""
        base = self._clean if self.direction == "noise" else self._corrupted
        shape = [len(self.metrics) if dim == "metric" else 1 for dim in self.dims]
        return self.raw - np.reshape([base[name] for name in self.metrics], shape)

    def to_rows(self) -> list[dict[str, Any]]:
        """The cells as a table, as `PatchingResult` has them, with the method under `approximate`.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
            >>> list(model.attribution_patching(*prompts, progress=False).to_rows()[0])
            ['component', 'layer', 'prob', 'prob_recovery', 'approximate']
        """
        return self._rows()

    def _rows(self, at: np.ndarray | None = None) -> list[dict[str, Any]]:
        return [{**row, "approximate": self.method} for row in super()._rows(at)]


class AttributionSet(AttributionResult, PatchingSet):
    """Estimates for a set of pairs: mean over mean, with a 95 % interval over the pairs, as of a `PatchingSet`.

    The interval is of the pairs, not of the approximation: more pairs do not make a gradient right.

    Attributes:
        scores: the estimated change of the metric, mean over the pairs that have the cell; beside what a `PatchingSet`
            has.

    Example:
        >>> from mlxtrace import AttributionSet, InterpretableModel, prompts
        >>> model, foreign = InterpretableModel("demo"), "The Colosseum is in the city of"
        >>> clean = [f"The {place} is in the city of" for place in ("Eiffel Tower", "Louvre Museum")]
        >>> pairs = [prompts.Pair(one, foreign) for one in clean]
        >>> found = model.attribution_patching(pairs, component="mlp", metric="logit_diff", progress=False)
        >>> isinstance(found, AttributionSet), found.per_pair.shape == (2, model.n_layers)
        (True, True)
    """

    SINGLE: ClassVar[type[PatchingResult]] = AttributionResult

    @property
    def scores(self) -> np.ndarray:
        """The estimated change of the metric, `patched - base`, mean over the pairs that have the cell."""
        run = "_clean" if self.direction == "noise" else "_corrupted"
        return np.nanmean(self.per_pair - self._of_pairs(run), axis=0)
