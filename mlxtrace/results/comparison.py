"""The same causal trace on two models: both maps, how they correlate, and whether the peak moved.

result = model.compare_bits(prompt, subject, bits=4)
result.correlation, result.largest_difference, result.peak_moved
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from .. import plotting
from .causal_trace_result import CausalTrace
from .explored import Explored
from .printing import Displayed, page, quoted

TIE = 0.01  # of the total effect
RULE = f"peaks within {100 * TIE:zg} % of the total effect count as ties"


@dataclass(repr=False, eq=False)
class Comparison(Explored, Displayed):
    """The same trace on two models, with the same answer and the same noise, and how they differ.

    Args:
        first, second: the two traces.
        names: of the two models.
        notes: what must be known to read the numbers.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> prompt = "The Eiffel Tower is in the city of"
        >>> result = model.compare_bits(prompt, "Eiffel Tower", bits=4, positions="last", samples=2, progress=False)
        >>> result.difference.shape, result.names[1], result.correlation > 0.9
        ((1, 12), '4 bits', True)
        >>> len(result.to_rows())
        12
        >>> figure = result.plot()
    """

    first: CausalTrace
    second: CausalTrace
    names: tuple[str, str]
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def difference(self) -> np.ndarray:
        """`[positions, layers]`: second scores - first scores."""
        return self.second.scores - self.first.scores

    @property
    def correlation(self) -> float:
        """Pearson's, over all cells' scores; NaN when one of the maps is flat."""
        a, b = self.first.scores.ravel(), self.second.scores.ravel()
        if np.ptp(a) < 1e-12 or np.ptp(b) < 1e-12:
            return float("nan")
        return float(np.corrcoef(a, b)[0, 1])

    @property
    def largest_difference(self) -> float:
        """Of two scores, in probability."""
        return float(np.abs(self.difference).max())

    @property
    def peaks(self) -> tuple[dict, dict]:
        """The strongest cell of each trace, as in `CausalTrace.to_rows`."""
        return self.first.top(1)[0], self.second.top(1)[0]

    @property
    def at_other_peak(self) -> tuple[float, float]:
        """Each trace's score where the other one's strongest cell is."""
        one, two = self.first.scores, self.second.scores
        return float(one.flat[two.argmax()]), float(two.flat[one.argmax()])

    @property
    def peak_moved(self) -> bool:
        """Whether either trace's strongest cell is, in the other trace, below its strongest by more than `TIE`.

        Scores that saturate (every late layer at the last token) tie to the fourth digit, and rounding picks one.
        """
        both = zip((self.first, self.second), self.at_other_peak, strict=True)
        return bool(max((x.scores.max() - there) / x.total_effect for x, there in both) > TIE)

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per cell: kind, position, token, layer, score of each, difference."""
        rows = []
        for a, b in zip(self.first.to_rows(), self.second.to_rows(), strict=True):
            row = {name: a[name] for name in ("kind", "position", "token", "layer")}
            row |= {"first": a["score"], "second": b["score"], "difference": b["score"] - a["score"]}
            rows.append(row)
        return rows

    def plot(
        self, path: str | os.PathLike | None = None, rows: Any = "auto", **look: Unpack[plotting.Look]
    ) -> Any:
        """Draw both maps on one colour scale.

        Args:
            path: a PNG, PDF or SVG to write as well.
            rows: which positions are shown: "auto", of many those that matter; "all"; or positions.
            look: `fig=` to draw on, `caption=False`.

        Returns:
            The matplotlib `Figure`.
        """
        return plotting.comparison(self, path, rows, **look)

    def __repr__(self) -> str:
        i, layer = np.unravel_index(np.abs(self.difference).argmax(), self.difference.shape)
        width, lines = max(map(len, self.names)), []
        traces = zip(self.names, (self.first, self.second), self.peaks, self.at_other_peak, strict=True)
        for name, trace, peak, there in traces:
            lines.append(
                f"{name:<{width}}  clean {trace.high_score:z.4f}, corrupted {trace.low_score:z.4f}, "
                f"peak {peak['score']:z.4f} at layer {peak['layer']}, "
                f"position {peak['position']} {quoted(peak['token'])}; {there:z.4f} at the other's peak"
            )
        token = self.first.to_rows()[i * self.difference.shape[1]]["token"]
        lines += [
            f"correlation {self.correlation:z.4f}",
            f"largest difference {self.largest_difference:z.4f}, at layer {layer}, {quoted(token)}",
            f"the peak {'moved' if self.peak_moved else 'stayed where it was'} ({RULE})",
        ]
        title = f"Comparison of a causal trace: {self.first.prompt} → {quoted(self.first.answer.text)}"
        return page(title, lines, self.notes)
