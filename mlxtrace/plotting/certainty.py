"""Which numbers are not told from no effect, and how maps show it: hatched. Bars have whiskers, from `kit`."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.collections import LineCollection

HATCHED = "hatched: the 95 % interval covers"
EXACT = 1e-9  # a number that is the same in every pair has no interval to speak of


def uncertain(values: np.ndarray, halves: np.ndarray | None, no_effect: float = 0.0) -> np.ndarray:
    """Which values are not told from no effect: their interval covers it, or is unknown where others have one.

    What is exactly no effect in every pair is certain. Where no interval is known (None, or all NaN) nothing is said.
    """
    if halves is None or np.isnan(halves).all():
        return np.zeros(np.shape(values), bool)
    moved = np.abs(values - no_effect)
    with np.errstate(invalid="ignore"):
        return ~(moved > halves) & ~((halves < EXACT) & (moved < EXACT)) & ~np.isnan(values)


def hatch(ax: Any, cells: np.ndarray) -> None:
    """Thin strokes over some cells of a map, bools `[rows, columns]`."""
    rows, columns = np.nonzero(cells)
    strokes = [
        [(x + max(0, t - 1), y + min(1, t)), (x + min(1, t), y + max(0, t - 1))]
        for t in (0.4, 0.8, 1.2, 1.6)
        for x, y in zip(columns, rows, strict=True)
    ]
    if strokes:
        ax.add_collection(LineCollection(strokes, colors="0.5", linewidths=0.5), autolim=False)
