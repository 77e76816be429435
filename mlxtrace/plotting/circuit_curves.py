"""The faithfulness of circuits by their size."""

from __future__ import annotations

import os
from typing import Any, Protocol, Unpack

import numpy as np
from matplotlib.figure import Figure

from .charts import AUDIT, HELPS, WHISKERS_MEAN, Look, Sheet, band, ink, legend, plain_axes, seen, style


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


def circuit_curve(curve: Curved, path: str | os.PathLike | None = None, **look: Unpack[Look]) -> Figure:
    """Draw faithfulness by number of edges on a logarithmic scale, with intervals and random circuits.

    Args:
        curve: a `Curve`.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        look: `ax` or `fig` to draw on, and `caption`, as in every plot.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when the path cannot be written.
    """
    sheet = Sheet(path, **look)
    with style():
        sheet.open(6.6, 3.6)
        ax: Any = sheet.axes()[0, 0]
        x, y, half = np.array(curve.asked), curve.faithfulness, np.nan_to_num(curve.interval)
        kind = "" if curve.method == "exact" else " (approximate scores)"
        ax.fill_between(x, y - half, y + half, **band(HELPS))
        ax.plot(x, y, "o-", color=seen(HELPS), markersize=4, label=f"{curve.method}{kind}, {curve.by}")
        if curve.random.size:
            mean = curve.random.mean(1)
            ax.fill_between(x, curve.random.min(1), curve.random.max(1), **band(AUDIT))
            words = f"{curve.random.shape[1]} random of as many edges"
            ax.plot(x, mean, "s--", color=seen(AUDIT), markersize=3, label=words)
        for height in (0.0, 1.0):
            ax.axhline(height, color=ink(0.7), linewidth=0.7, linestyle=":")
        _sizes(ax, curve)
        ax.set_xlabel(f"edges of {curve.total}")
        ax.set_ylabel("faithfulness")
        plain_axes(ax)
        legend(ax, sheet.ax is not None)
        caption = [
            f"metric: {curve.metric}; CPR {curve.cpr:z.3f}, CMD {curve.cmd:z.3f} (areas over shares of edges)"
        ]
        several = len(curve.ids) > 1
        bands = [WHISKERS_MEAN.replace("whiskers", "band")] if several else []
        sheet.headline("Faithfulness by size of the circuit", [*caption, *bands])
    return sheet.finish()


def _sizes(ax: Any, curve: Curved) -> None:
    """The x axis: numbers of edges, logarithmic from 1 on, with ticks at powers of ten."""
    first = min(curve.asked)
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xlim(max(0.0, 0.8 * first), curve.total * 1.15)
    tens = [10**i for i in range(12) if max(1, first // 2) <= 10**i <= curve.total]
    shown = [0, *tens] if first < 1 else tens
    ax.set_xticks(shown, [str(n) for n in shown])
    ax.minorticks_off()
