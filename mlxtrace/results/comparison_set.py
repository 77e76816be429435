"""Causal traces of many prompts on two models: means with 95 % intervals, and their paired difference.

result = model.compare_bits(prompts, subjects, bits=4)
result.difference, result.interval      # [roles, layers]; half-widths
result.correlation, result.moved        # mean over prompts; the prompts whose peak moved
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np

from .. import plotting
from ..text.regions import ROLES, roles_of
from .comparison import RULE, Comparison
from .explored import Explored
from .intervals import FEW, mean_of, ratio_of_means
from .printing import Displayed, page

LEAST_EFFECT = 0.01  # of the answer's probability; with less there is no peak to speak of
SHOWN = 5  # prompts that a line names
WIDE = 24  # characters of a model's name above a column


class ComparisonSet(Explored, Displayed):
    """The same traces of many prompts on two models: means by the role of a token and layer, and their differences.

    Differences are paired: each prompt's second score less its first, averaged over the tokens of a role. Intervals
    are 95 %, 1.96 standard errors, prompts being the independent units; NaN for one prompt, and where a role has a
    token in one prompt only.

    Args:
        singles: the comparison of each prompt.
        ids: their names.
        notes: what must be known to read the numbers.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> prompts = ["The Eiffel Tower is in the city of", "The Colosseum is in the city of"]
        >>> subjects = ["Eiffel Tower", "Colosseum"]
        >>> options = {"positions": "subject", "samples": 1, "progress": False}
        >>> result = model.compare_bits(prompts, subjects, bits=4, **options)
        >>> result.difference.shape == result.interval.shape == (len(result.roles), model.n_layers)
        True
        >>> result.n, result.to_rows()[0]["prompts"]
        (2, 2)
        >>> figure = result.plot()
    """

    def __init__(self, singles: Sequence[Comparison], ids: Sequence[str], notes: Sequence[str] = ()) -> None:
        self.singles, self.ids, self.notes = list(singles), list(ids), list(notes)
        if 1 < len(self.singles) < FEW:
            self.notes.append(
                f"with {len(self.singles)} prompts, 1.96 standard errors are too narrow for a 95 % interval"
            )
        self.names = self.singles[0].names
        places = [_rows_of(one.first) for one in self.singles]
        sizes = np.array([[len(rows) for rows in by_role] for by_role in places])
        there = [r for r in range(len(ROLES)) if sizes[:, r].sum()]
        self.roles: list[str] = [ROLES[r] for r in there]
        self.counts: list[int] = sizes.sum(0)[there].tolist()  # tokens of each role
        self.prompts: list[int] = (sizes > 0).sum(0)[there].tolist()  # and prompts that have one
        values = [(one.first.scores, one.second.scores, one.difference) for one in self.singles]
        sums = np.array(
            [
                [[x[by_role[r]].sum(0) for x in of_one] for r in there]
                for of_one, by_role in zip(values, places, strict=True)
            ]
        )  # [prompts, roles, 3, layers]
        tokens = sizes[:, there, None, None]
        found = ratio_of_means(np.where(tokens > 0, sums, np.nan), tokens)
        self.first, self.second, self.difference = found.value.transpose(1, 0, 2)
        self.first_interval, self.second_interval, self.interval = found.half.transpose(1, 0, 2)

    @property
    def n(self) -> int:
        """The number of prompts."""
        return len(self.singles)

    @property
    def kind(self) -> str | None:
        """What was restored: None (one layer output), "mlp" or "attn"."""
        return self.singles[0].first.kind

    @property
    def low(self) -> np.ndarray:
        """`[roles, layers]`: the lower ends of the differences' intervals."""
        return self.difference - self.interval

    @property
    def high(self) -> np.ndarray:
        """`[roles, layers]`: the upper ends of the differences' intervals."""
        return self.difference + self.interval

    @property
    def uncertain(self) -> np.ndarray:
        """`[roles, layers]`: whether a difference's interval holds 0, or there is none."""
        return ~((self.low > 0) | (self.high < 0))

    @property
    def correlations(self) -> np.ndarray:
        """`[prompts]`: of each prompt's two maps; NaN where one is flat."""
        return np.array([one.correlation for one in self.singles])

    @property
    def correlation(self) -> float:
        """The mean of `correlations`, those that are NaN left out."""
        return float(mean_of(self.correlations).value)

    @property
    def correlation_interval(self) -> float:
        """The half-width of the 95 % interval of `correlation`; NaN for a single prompt."""
        return float(mean_of(self.correlations).half)

    @property
    def moved(self) -> list[str]:
        """The ids of the prompts whose peak moved (`Comparison.peak_moved`), of those that have one."""
        return [id for id, one in self._with_peaks() if one.peak_moved]

    @property
    def without_peak(self) -> list[str]:
        """The ids of prompts whose answer the noise hardly moved in either model, so that no cell is a peak."""
        known = {id for id, _ in self._with_peaks()}
        return [id for id in self.ids if id not in known]

    def _with_peaks(self) -> list[tuple[str, Comparison]]:
        both = zip(self.ids, self.singles, strict=True)
        return [(id, x) for id, x in both if min(x.first.total_effect, x.second.total_effect) >= LEAST_EFFECT]

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per role and layer: tokens, prompts, the means, their difference, and its interval's ends.

        Means are of the answer's probability; `low` and `high` are None where there is no interval.
        """
        rows = []
        for i, role in enumerate(self.roles):
            for layer in range(self.first.shape[1]):
                at = i, layer
                row: dict[str, Any] = {"role": role, "layer": layer, "tokens": self.counts[i]}
                row |= {"prompts": self.prompts[i], "first": float(self.first[at])}
                row |= {"second": float(self.second[at]), "difference": float(self.difference[at])}
                ends = (self.low[at], self.high[at])
                row |= {
                    k: None if np.isnan(v) else float(v) for k, v in zip(("low", "high"), ends, strict=True)
                }
                rows.append(row)
        return rows

    def plot(self, path: str | os.PathLike | None = None, **look: Unpack[plotting.Look]) -> Any:
        """Draw both models' mean maps, and their difference, whose uncertain cells are marked.

        Args:
            path: a PNG, PDF or SVG to write as well.
            look: `fig` to draw on, and `caption`, as in every plot.

        Returns:
            The matplotlib `Figure`.
        """
        return plotting.compared_averages(self, path, **look)

    def __repr__(self) -> str:
        width, lines = max(map(len, self.names)), []
        for name, which in zip(self.names, ("first", "second"), strict=True):
            traces = [getattr(one, which) for one in self.singles]
            clean = np.mean([trace.high_score for trace in traces])
            corrupted = np.mean([trace.low_score for trace in traces])
            lines.append(f"{name:<{width}}  clean {clean:z.4f}, corrupted {corrupted:z.4f}")
        flat = int(np.isnan(self.correlations).sum())
        lines.append(
            f"correlation {self.correlation:z.4f}{_plus(self.correlation_interval)}, mean over prompts"
            + (f"; {flat} without, whose map is flat in one model" if flat else "")
        )
        known = self.n - len(self.without_peak)
        lines.append(f"the peak moved in {len(self.moved)} of {known} prompts{_named(self.moved)} ({RULE})")
        if self.without_peak:
            lines.append(
                f"no peak in {len(self.without_peak)}{_named(self.without_peak)}: there the noise takes less than "
                f"{LEAST_EFFECT} of the answer's probability"
            )
        title = f"Comparison of causal traces: {self.n} prompts on {self.names[0]} and {self.names[1]}"
        return page(title, lines, self.notes, self._table())

    def _table(self) -> list[str]:
        """For each role the layer whose mean differs most."""
        names = [name if len(name) <= WIDE else f"…{name[1 - WIDE :]}" for name in self.names]
        width = max(9, *map(len, names))
        heads = "".join(f"  {name:>{width}}" for name in names)
        lines = [
            "  where the mean p(answer) differs most, ± its 95 % interval (1.96 standard errors over prompts)",
            f"  {'':<24}{'tokens':>6}{heads}  difference",
        ]
        for i, (role, count) in enumerate(zip(self.roles, self.counts, strict=True)):
            layer = int(np.abs(self.difference[i]).argmax())
            values = "".join(f"  {x[i, layer]:>z{width}.4f}" for x in (self.first, self.second))
            gap, half = self.difference[i, layer], self.interval[i, layer]
            lines.append(f"  {role:<24}{count:>6}{values}  {gap:+z.4f}{_plus(half)} (layer {layer})")
        return lines


def _rows_of(trace: Any) -> list[list[int]]:
    """For each role, the rows of a trace's map that belong to its tokens."""
    row = {position: i for i, position in enumerate(trace.positions)}
    by_role = roles_of(trace.subject_range, len(trace.tokens))
    return [[row[p] for p in positions if p in row] for positions in by_role]


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return f": {', '.join(ids[:SHOWN])}{more}" if ids else ""


def _plus(half: float) -> str:
    """An interval behind its mean; nothing where there is none."""
    return "" if np.isnan(half) else f" ± {half:z.4f}"
