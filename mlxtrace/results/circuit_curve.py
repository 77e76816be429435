"""How faithful circuits are: one number with its interval, a curve by size with its areas, completeness.

Sizes and areas are those of MIB (arXiv:2504.13151): its released code takes circuits of .001 to 1 of all edges, and
areas by trapezoids. Whether edges are chosen by absolute or by signed scores, and whether areas are over a linear or
a logarithmic axis, differs from one version of it to the next: here `absolute` says the first, and areas are linear.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np
from matplotlib.figure import Figure

from ..plotting.circuit_curves import Look, circuit_curve
from .intervals import ratio_of_means
from .printing import page
from .saved import Record

SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # shares of all edges, as in MIB


class Faithfulness(float):
    """`(circuit - corrupted) / (clean - corrupted)`, mean over mean: a float that says more.

    Attributes:
        interval: the half-width of its 95 % interval over the pairs; NaN for one pair.
        per_pair: float64 `[pairs]`, of each by itself (NaN or huge where its own gap is nearly nothing).
        values, clean, corrupted: float64 `[pairs]`, the metric of the circuit and of the plain runs.
        ids: the pairs' names. metric: its name.

    Example:
        >>> import numpy as np
        >>> from mlxtrace import Faithfulness
        >>> kept, clean, corrupted = np.array([3.0, 1.0]), np.array([4.0, 2.0]), np.array([0.0, 0.0])
        >>> found = Faithfulness.of(kept, clean, corrupted, ["a", "b"], "logit_diff")
        >>> round(float(found), 3), found.per_pair.tolist()
        (0.667, [0.75, 0.5])
    """

    interval: float
    per_pair: np.ndarray
    values: np.ndarray
    clean: np.ndarray
    corrupted: np.ndarray
    ids: list[str]
    metric: str

    @classmethod
    def of(
        cls, values: np.ndarray, clean: np.ndarray, corrupted: np.ndarray, ids: Sequence[str], metric: str
    ) -> Faithfulness:
        """Of the metric's values in each pair: of the circuit, and of the plain runs."""
        found = ratio_of_means(values - corrupted, clean - corrupted)
        made = cls(found.value)
        made.interval, made.values, made.clean, made.corrupted = float(found.half), values, clean, corrupted
        made.ids, made.metric = list(ids), metric
        with np.errstate(divide="ignore", invalid="ignore"):
            made.per_pair = (values - corrupted) / (clean - corrupted)
        return made

    def __repr__(self) -> str:
        half = f" ± {self.interval:z.3f}" if np.isfinite(self.interval) else ""
        over = f" over {len(self.ids)} pairs" if len(self.ids) > 1 else ""
        ends = f"clean {self.clean.mean():z.4g}, corrupted {self.corrupted.mean():z.4g}"
        return f"faithfulness {float(self):z.4f}{half}{over} ({self.metric}: circuit {self.values.mean():z.4g}, {ends})"

    __str__ = __repr__


@dataclass(frozen=True)
class Completeness:
    """Whether something outside a circuit does its work as well.

    Attributes:
        complement: the faithfulness of all edges but the circuit's; near 0 where the circuit is complete.
        circuit, model: for each dropped part of the circuit, the faithfulness of the circuit and of the whole model
            without it; a complete circuit moves as the model does.

    Example:
        >>> import numpy as np
        >>> from mlxtrace import Completeness, Faithfulness
        >>> without = Faithfulness.of(np.array([0.1]), np.array([2.0]), np.array([0.0]), ["a"], "logit_diff")
        >>> round(Completeness(without, circuit=[0.6, 0.2], model=[0.5, 0.4]).gap, 3)
        0.2
    """

    complement: Faithfulness
    circuit: list[float]
    model: list[float]

    @property
    def gap(self) -> float:
        """The largest difference between the circuit's and the model's faithfulness over the dropped parts."""
        return float(np.max(np.abs(np.subtract(self.circuit, self.model)), initial=0.0))

    def __repr__(self) -> str:
        said = f"without parts of it, circuit and model differ by up to {self.gap:z.3f} over {len(self.circuit)} draws"
        return f"completeness: {said}; without the circuit the model's faithfulness is {float(self.complement):z.3f}"


@dataclass(repr=False, eq=False)
class Curve(Record):
    """The faithfulness of circuits by their size.

    Args:
        values: float64 `[sizes, pairs]`, the metric of each circuit.
        random: float64 `[sizes, draws]`, the faithfulness of random circuits of as many edges.
        clean, corrupted: float64 `[pairs]`, the metric in the plain runs.
        sizes: shares of all edges that were asked for.
        asked: edges that were chosen. edges: of these, those that lead somewhere.
        ids: the pairs' names.
        metric, method, by, absolute, model: of the circuits.
        total: all edges that there are.
        notes: what must be known to read it.

    Example:
        >>> import numpy as np
        >>> from mlxtrace import Curve
        >>> arrays = np.array([[0.0], [1.0]]), np.zeros((2, 0)), np.array([2.0]), np.array([0.0])
        >>> names = {"ids": ["a"], "metric": "logit_diff", "method": "eap", "by": "greedy", "model": "demo"}
        >>> curve = Curve(*arrays, sizes=[0.5, 1.0], asked=[5, 10], edges=[5, 10], absolute=True, total=10, **names)
        >>> curve.cpr, [row["faithfulness"] for row in curve.to_rows()]
        (0.125, [0.0, 0.5])
        >>> figure = curve.plot()
    """

    values: np.ndarray
    random: np.ndarray
    clean: np.ndarray
    corrupted: np.ndarray
    sizes: list[float]
    asked: list[int]
    edges: list[int]
    ids: list[str]
    metric: str
    method: str
    by: str
    absolute: bool
    model: str
    total: int
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        circuit: Any,
        sizes: list[float],
        asked: list[int],
        edges: list[int],
        by: str,
        absolute: bool,
        found: list[Faithfulness],
        draws: int,
    ) -> Curve:
        """Of the faithfulness of a circuit of each size, and then of `draws` random ones of each size."""
        first, n = found[0], len(sizes)
        return cls(
            values=np.stack([one.values for one in found[:n]]),
            random=np.array([float(one) for one in found[n:]]).reshape(n, draws),
            clean=first.clean,
            corrupted=first.corrupted,
            sizes=sizes,
            asked=asked,
            edges=edges,
            ids=first.ids,
            metric=circuit.metric,
            method=circuit.method,
            by=by,
            absolute=absolute,
            model=circuit.model,
            total=int(circuit.upstream.sum()),
        )

    def _ratio(self) -> Any:
        return ratio_of_means((self.values - self.corrupted).T, (self.clean - self.corrupted)[:, None])

    @property
    def faithfulness(self) -> np.ndarray:
        """float64 `[sizes]`: mean over mean of the pairs."""
        return self._ratio().value

    @property
    def interval(self) -> np.ndarray:
        """The half-widths of their 95 % intervals over the pairs; NaN for one pair."""
        return self._ratio().half

    @property
    def cpr(self) -> float:
        """The area under faithfulness by share of edges, by trapezoids on a linear scale: higher is better."""
        return self._area(self.faithfulness)

    @property
    def cmd(self) -> float:
        """The area between the faithfulness and 1, as `cpr`: 0 is best."""
        return self._area(np.abs(1 - self.faithfulness))

    def _area(self, heights: np.ndarray) -> float:
        return float((np.diff(self.sizes) * (heights[1:] + heights[:-1]) / 2).sum())

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per size: size (share), edges, faithfulness, interval (None for one pair), random (mean)."""
        halves = [None if np.isnan(half) else float(half) for half in self.interval]
        means = [float(row.mean()) if row.size else None for row in self.random]
        columns = zip(self.sizes, self.edges, self.faithfulness.tolist(), halves, means, strict=True)
        return [
            dict(zip(("size", "edges", "faithfulness", "interval", "random"), row, strict=True))
            for row in columns
        ]

    def __repr__(self) -> str:
        areas = f"CPR {self.cpr:z.3f}, CMD {self.cmd:z.3f}"
        title = f"Curve: circuits of {self.total} edges by {self.by} ({self.method}); {areas}"
        how = "areas: trapezoids over shares of edges on a linear scale; CPR and CMD are of MIB (arXiv:2504.13151)"
        lines = [
            f"faithfulness in {self.metric}{f', {len(self.ids)} pairs' if len(self.ids) > 1 else ''}",
            how,
        ]
        body = ["      edges   share  faithful" + ("    random" if self.random.size else "")]
        for row in self.to_rows():
            random = "" if row["random"] is None else f"{row['random']:z10.3f}"
            body.append(f"  {row['edges']:9d} {100 * row['size']:z6.3g}% {row['faithfulness']:z9.3f}{random}")
        return page(title, lines, self.notes, body)

    def plot(self, path: str | os.PathLike | None = None, **look: Unpack[Look]) -> Figure:
        """Draw faithfulness by number of edges, with intervals and the random circuits.

        Args:
            path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
            look: `ax` or `fig` to draw on, and `caption`, as in every plot.

        Returns:
            A matplotlib Figure.
        """
        return circuit_curve(self, path, **look)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        n, pairs = len(self.sizes), len(self.ids)
        draws = self.random.shape[-1]
        return {"values": (n, pairs), "random": (n, draws), "clean": (pairs,), "corrupted": (pairs,)}
