"""Noise everywhere but in a window of layers: probabilities by window, that print, make tables, save and load.

result.scores            # [centres]
result.clean, result.noised
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np

from .. import plotting
from ..anatomy.components import COMPONENTS
from ..errors import InputError
from .printing import OF_A_MEAN, bars, over, page, probability, quoted
from .saved import Answer, Record


@dataclass(repr=False, eq=False)
class NoisingWindow(Record):
    """Probability of the answer with every layer noised but those of a window, for each place of the window.

    Args:
        raw: float64 `[centres, samples]`, probabilities.
        layers: the centres.
        clean: the probability in the plain run.
        noised: with every layer noised and none restored.
        answer: the token whose probability it is.
        component: what was noised.
        window: the number of layers that were restored.
        level: the noise's standard deviation.
        seed: of the noise.
        prompt, model: the text and the model's name.
        notes: what must be known to read the numbers.
        settings: of the run into a folder that it is of, if it is of one.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> result = model.noising_window("The Eiffel Tower is in the city of", level=1.0, samples=2)
        >>> result.raw.shape, result.scores.shape, result.answer.text
        ((12, 2), (12,), ' Paris')
        >>> [row["layer"] for row in result.to_rows()][:3]
        [0, 1, 2]
        >>> figure = result.plot()
    """

    raw: np.ndarray
    layers: list[int]
    clean: float
    noised: float
    answer: Answer | None
    component: str
    window: int
    level: float
    seed: int
    prompt: str
    model: str
    notes: list[str] = field(default_factory=list)
    settings: dict = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        """The prompts of a set; none for the result of one prompt."""
        return []

    @property
    def halves(self) -> np.ndarray | None:
        """Half-widths of the scores' 95 % intervals, of a set."""
        return None

    @property
    def scores(self) -> np.ndarray:
        """`[centres]`: the mean over samples of the answer's probability."""
        return self.raw.mean(-1)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        if not np.isfinite([self.clean, self.noised]).all():
            raise InputError("its values of the plain runs are not finite")
        return {"raw": (len(self.layers), self.raw.shape[-1])}

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per centre: component, layer, score."""
        return [
            {"component": self.component, "layer": layer, "score": float(score)}
            for layer, score in zip(self.layers, self.scores, strict=True)
        ]

    def plot(self, path: str | os.PathLike | None = None, **look: Unpack[plotting.Look]) -> Any:
        """Draw a bar for each window, with lines at the clean and the fully noised run.

        Args:
            path: a PNG, PDF or SVG to write as well.
            look: `ax` or `fig` to draw on, and `caption`, as in every plot.

        Returns:
            The matplotlib `Figure`.
        """
        return plotting.noising(self, path, **look)

    def __repr__(self) -> str:
        words = COMPONENTS[self.component].words
        title = (
            f"{type(self).__name__}: noise of {self.level:zg} on the {words} of all layers but those within "
            f"{self.window // 2} of the centre, which are clean{over(self.ids)}"
        )
        clean = "clean" if self.answer is None else quoted(self.answer.text)
        said = f"{clean} {probability(self.clean)}; all layers noised: {self.noised:z.4f}"
        lines = [f"prompt: {self.prompt} → {said}"]
        if len(self.ids) > 1:
            lines.append(f"means{over(self.ids)}, ± {OF_A_MEAN}")
        halves = None if self.halves is None else {"score": self.halves}
        drawn = bars("centre", self.layers, {"score": self.scores}, max(self.clean, 1e-9), halves)
        return page(title, lines, self.notes, drawn)
