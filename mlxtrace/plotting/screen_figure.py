"""A screen: what gradients guess of each cell that was run, against what patching it does."""

from __future__ import annotations

import os
import re
from typing import Any, Protocol, Unpack

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from .charts import AUDIT, THRESHOLD, VERIFIED, Look, Sheet, escape, ink, legend, plain_axes, seen, style
from .recoveries import words_of_metric

FAR = 100  # times the largest effect: estimates beyond it stand at the edge
TICKS = 5  # powers of ten on either side
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
        most, across, said = _reach(found, 2 * linear)
        _scale(ax.xaxis, linear, across)
        _scale(ax.yaxis, linear, most)
        furthest = np.arcsinh(max(most, across) / linear)
        line = np.sinh(np.linspace(-furthest, furthest, 200)) * linear
        ax.plot(line, line, color=ink(0.35), linewidth=0.8, zorder=1, label="estimate = effect")
        _cells(ax, found, across)
        for sign in (-1, 1):
            label = "threshold: the tenth strongest verified" if sign > 0 else None
            colour = seen(THRESHOLD)
            ax.axhline(sign * found.threshold, color=colour, linewidth=0.8, linestyle="--", label=label)
        ax.set_xlim(-1.3 * across, 1.3 * across)
        ax.set_ylim(-1.3 * most, 1.3 * most)
        words = words_of_metric(found.metric)
        ax.set_xlabel(escape(f"estimate by gradient (a guess), {words}"))
        ax.set_ylabel(escape(f"effect on the {words}, exact"))
        legend(ax, sheet.ax is not None)
        sentences = re.split(r"(?<=[.]) (?=[A-Z])", found.sentence)  # a part of a caption has few lines
        scale = f"both axes are logarithmic beyond ±{linear:.2g}"
        sheet.headline("Screen: what gradients guess, and what patching does", [*sentences, scale, *said])
    return sheet.finish()


def _reach(found: Screened, least: float) -> tuple[float, float, list[str]]:
    """How far the axes go, of effects and of estimates; what is said of estimates that lie far beyond all effects."""
    most = max(float(np.abs(found.effects).max(initial=0.0)), least)
    sizes = np.abs(found.estimates)
    across = max(float(sizes.max(initial=0.0)), most)
    if across <= FAR * most:
        return most, across, []
    across = max(float(sizes[sizes <= FAR * most].max(initial=0.0)), most)
    n = int((sizes > FAR * most).sum())
    stand = "estimate stands" if n == 1 else "estimates stand"
    return most, across, [f"triangles: {n} {stand} at the edge, with sizes up to {sizes.max():.2g}"]


def _scale(axis: Any, linear: float, most: float) -> None:
    """A logarithmic axis both ways, with ticks at so few powers of ten that they are apart."""
    getattr(axis.axes, f"set_{axis.axis_name}scale")("symlog", linthresh=linear)
    least, tens = 2 * linear, 10.0 ** np.arange(np.ceil(np.log10(3 * linear)), np.log10(most) + 0.01)
    powers = tens[:: -1 - len(tens) // TICKS][::-1]  # ticks nearer to 0 would lie on each other
    if len(tens) < 2:
        fine = np.outer(10.0 ** np.arange(np.floor(np.log10(least)), np.log10(most) + 0.01), (1, 3)).ravel()
        powers = fine[(fine >= least) & (fine <= 1.01 * most)]
    axis.set_ticks([*-powers[::-1], 0, *powers], minor=False)
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")  # powers as formulas need fonts that not every machine has


def _cells(ax: Any, found: Screened, across: float) -> None:
    """A point for each cell: the audit's below, the verified ones above; those beyond the axis are triangles."""
    parts = {"audit": slice(found.verify, None), "verified": slice(None, found.verify)}
    for part, cells in parts.items():
        x, y = found.estimates[cells], found.effects[cells]
        words = "verified" if part == "verified" else "audit, at random of the rest"
        look: Any = {"color": seen(COLOURS[part]), "alpha": 0.75, "linewidths": 0}
        if len(x):
            ax.scatter(x, y, s=9, label=f"{words} ({len(x)})", **look)
        for sign, marker in ((1, ">"), (-1, "<")):
            if (beyond := sign * x > across).any():
                at = np.full(beyond.sum(), sign * 1.2 * across)
                ax.scatter(at, y[beyond], s=24, marker=marker, **look)
