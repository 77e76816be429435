"""The faithfulness of circuits by their size."""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np
from matplotlib.figure import Figure

from .kit import WHISKERS_MEAN, checked, finished, headline, plain_axes, style


class Curved(Protocol):
    """What is drawn: a curve of circuits."""

    random: np.ndarray
    edges: list[int]
    asked: list[int]
    ids: list[str]
    by: str
    method: str
    metric: str
    total: int

    @property
    def faithfulness(self) -> np.ndarray: ...
    @property
    def interval(self) -> np.ndarray: ...
    @property
    def cpr(self) -> float: ...
    @property
    def cmd(self) -> float: ...


def circuit_curve(curve: Curved, path: str | os.PathLike | None = None) -> Figure:
    """Draw faithfulness by number of edges on a logarithmic scale, with intervals and random circuits.

    Args:
        curve: a `Curve`.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when the path cannot be written.
    """
    path = checked(path)
    with style():
        fig = Figure(figsize=(5.2, 3.6), layout="constrained")
        ax: Any = fig.subplots()
        x, y, half = np.array(curve.asked), curve.faithfulness, np.nan_to_num(curve.interval)
        kind = "" if curve.method == "exact" else " (approximate scores)"
        ax.fill_between(x, y - half, y + half, color="#2166ac", alpha=0.2, linewidth=0)
        ax.plot(x, y, "o-", color="#2166ac", markersize=4, label=f"{curve.method}{kind}, {curve.by}")
        if curve.random.size:
            mean = curve.random.mean(1)
            ax.fill_between(x, curve.random.min(1), curve.random.max(1), color="0.6", alpha=0.25, linewidth=0)
            words = f"{curve.random.shape[1]} random of as many edges"
            ax.plot(x, mean, "s--", color="0.5", markersize=3, label=words)
        for height in (0.0, 1.0):
            ax.axhline(height, color="0.3", linewidth=0.7, linestyle=":")
        _sizes(ax, curve)
        ax.set_xlabel(f"edges of {curve.total}")
        ax.set_ylabel("faithfulness")
        ax.legend(frameon=False, fontsize=7.5, loc="best")
        plain_axes(ax)
        caption = [
            f"metric: {curve.metric}; CPR {curve.cpr:.3f}, CMD {curve.cmd:.3f} (areas over shares of edges)"
        ]
        several = len(curve.ids) > 1
        headline(
            fig,
            "Faithfulness by size of the circuit",
            [*caption, *([WHISKERS_MEAN.replace("whiskers", "band")] * several)],
        )
    return finished(fig, path)


def _sizes(ax: Any, curve: Curved) -> None:
    """The x axis: numbers of edges, logarithmic from 1 on, with ticks at powers of ten."""
    first = min(curve.asked)
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xlim(max(0.0, 0.8 * first), curve.total * 1.15)
    tens = [10**i for i in range(12) if max(1, first // 2) <= 10**i <= curve.total]
    shown = [0, *tens] if first < 1 else tens
    ax.set_xticks(shown, [str(n) for n in shown])
    ax.minorticks_off()
