"""A screen: what gradients guess of each cell that was run, against what patching it does."""

from __future__ import annotations

import os
from typing import Any, Protocol, Unpack

import numpy as np
from matplotlib.figure import Figure

from .charts import AUDIT, THRESHOLD, VERIFIED, Look, Sheet, escape, ink, legend, plain_axes, seen, style
from .recoveries import words_of_metric

COLOURS = {"verified": VERIFIED, "audit": AUDIT}


class Screened(Protocol):
    """A screen, as it is drawn."""

    metric: str
    verify: int
    estimates: np.ndarray

    @property
    def effects(self) -> np.ndarray: ...
    @property
    def threshold(self) -> float: ...
    @property
    def sentence(self) -> str: ...
    @property
    def audit(self) -> Any: ...


def screen_figure(found: Screened, path: str | os.PathLike | None = None, **look: Unpack[Look]) -> Figure:
    """Estimates across, exact effects upwards, verified cells and the audit's apart; lines at the threshold.

    Args:
        found: what `screen` returns.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        look: `ax` or `fig` to draw on, and `caption`, as in every plot.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when the path cannot be written.
    """
    sheet = Sheet(path, **look)
    with style():
        sheet.open(7.2, 5)
        ax = sheet.axes()[0, 0]
        plain_axes(ax)
        ax.grid(axis="x", color=ink(0.1), linewidth=0.6)
        linear = max(found.threshold / 10, 1e-9)
        most = max(float(np.abs(np.append(found.effects, found.estimates)).max(initial=0.0)), 2 * linear)
        powers = 10.0 ** np.arange(np.ceil(np.log10(3 * linear)), np.log10(most) + 0.01)
        ax.set_xscale("symlog", linthresh=linear)
        ax.set_yscale("symlog", linthresh=linear)
        for axis in (ax.xaxis, ax.yaxis):  # ticks nearer to 0 would lie on each other
            axis.set_ticks([*-powers[::-1], 0, *powers], minor=False)
            axis.set_major_formatter("{x:g}")  # powers as formulas need fonts that not every machine has
        line = np.sinh(np.linspace(-np.arcsinh(most / linear), np.arcsinh(most / linear), 200)) * linear
        ax.plot(line, line, color=ink(0.35), linewidth=0.8, zorder=1, label="estimate = effect")
        _cells(ax, found)
        for sign in (-1, 1):
            label = "threshold: the tenth strongest verified" if sign > 0 else None
            ax.axhline(
                sign * found.threshold, color=seen(THRESHOLD), linewidth=0.8, linestyle="--", label=label
            )
        ax.set_xlim(-1.3 * most, 1.3 * most)
        ax.set_ylim(-1.3 * most, 1.3 * most)
        words = words_of_metric(found.metric)
        scale = f"both axes are logarithmic beyond ±{linear:.2g}"
        ax.set_xlabel(escape(f"estimate by gradient (a guess), {words}\n{scale}"))
        ax.set_ylabel(escape(f"effect on the {words}, exact"))
        legend(ax, sheet.ax is not None)
        sheet.headline("Screen: what gradients guess, and what patching does", [found.sentence])
    return sheet.finish()


def _cells(ax: Any, found: Screened) -> None:
    """A point for each cell: the audit's below, the verified ones above."""
    parts = {"audit": slice(found.verify, None), "verified": slice(None, found.verify)}
    for part, cells in parts.items():
        x, y = found.estimates[cells], found.effects[cells]
        words = "verified" if part == "verified" else "audit, at random of the rest"
        if len(x):
            ax.scatter(
                x, y, s=9, color=seen(COLOURS[part]), alpha=0.75, linewidths=0, label=f"{words} ({len(x)})"
            )
