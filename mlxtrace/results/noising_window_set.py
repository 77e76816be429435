"""Noise everywhere but in a window of layers, over many prompts: means with their 95 % intervals.

result = model.noising_window(prompts)
result.scores, result.interval      # the mean over the prompts, and the half-width of its 95 % interval
result.per_pair                     # [prompts, centres]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .intervals import known, mean_of
from .noising_window_result import NoisingWindow
from .over_pairs import answer_of, notes_of, several
from .record_set import RecordSet

SAME = ("model", "component", "layers", "window", "seed")


def _traits(single: NoisingWindow) -> dict[str, Any]:
    return {**{name: getattr(single, name) for name in SAME}, "samples": single.raw.shape[-1]}


class NoisingWindowSet(RecordSet, NoisingWindow):
    """Probabilities with every layer noised but those of a window: means over prompts, with 95 % intervals.

    Args:
        singles: the results of the prompts, of one kind: same model, component, layers, window, samples and seed.
        ids: a name for each.
        notes: what is to be said of these numbers beside what is noted here.
        plan: what was run, if that is to be kept.

    Attributes:
        raw: the mean over the prompts, `[centres, samples]`. scores: of these over the samples, `[centres]`.
        interval: the half-width of the 95 % interval of each score, 1.96 s / sqrt(n) over the prompts.
        per_pair: the scores of each prompt, `[prompts, centres]`.
        n: how many prompts there are.

    Raises:
        InputError: for results that are not of one kind, with the odd one's id, and for ids given twice.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> from mlxtrace.results.noising_window_set import NoisingWindowSet
        >>> model, places = InterpretableModel("demo"), ("Eiffel Tower", "Louvre Museum")
        >>> singles = [model.noising_window(f"The {place} is in the city of", samples=2) for place in places]
        >>> result = NoisingWindowSet(singles, places)
        >>> result.per_pair.shape == (2, model.n_layers) and result.interval.shape == (model.n_layers,)
        True
        >>> len(result.to_rows()) == model.n_layers
        True
    """

    SINGLE, DIMS = NoisingWindow, ("layer", "sample")

    def __init__(
        self,
        singles: Sequence[NoisingWindow],
        ids: Sequence[str],
        notes: Sequence[str] = (),
        plan: Any = None,
    ) -> None:
        first, self.plan = self._gather(singles, ids, notes, _traits)[0], plan
        self.per_pair = self._stacked("scores")
        levels = {single.level for single in self.singles}
        told = [] if len(levels) == 1 else [f"the noise's level is from {min(levels):zg} to {max(levels):zg}"]
        super().__init__(
            raw=self._stacked("raw").mean(0),
            clean=float(np.mean([single.clean for single in self.singles])),
            noised=float(np.mean([single.noised for single in self.singles])),
            answer=answer_of([single.answer for single in self.singles]),
            level=float(np.mean([single.level for single in self.singles])),
            prompt=several([single.prompt for single in self.singles]),
            notes=list(dict.fromkeys([*notes, *notes_of(self.singles), *told])),
            **{name: getattr(first, name) for name in SAME},
        )

    @property
    def n(self) -> int:
        """How many prompts there are."""
        return len(self.ids)

    @property
    def interval(self) -> np.ndarray:
        """`[centres]`: the half-width of each score's 95 % interval; NaN for one prompt."""
        return mean_of(self.per_pair).half

    @property
    def halves(self) -> np.ndarray:
        """The same, for figures and tables."""
        return self.interval

    def _arrays(self) -> dict[str, np.ndarray]:
        return {"raw": self._stacked("raw")}

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per centre: component, layer, score, n, and low and high, the ends of its interval."""
        rows = super().to_rows()
        for row, half in zip(rows, self.interval, strict=True):
            score = row["score"]
            row |= {"n": self.n, "low": known(score - half), "high": known(score + half)}
        return rows
