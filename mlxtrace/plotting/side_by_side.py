"""Several series of numbers by layer on one axes: bars beside each other, or lines where bars would be too thin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .charts import band, escape, ink, least_span, seen, series, whiskers

THINNEST = 0.04  # inches of a bar
FILLED = 0.84  # of a layer's room, by its bars together
DASHES = ("-", "--", "-.", ":")


class Series(NamedTuple):
    """Numbers of one result: `values[i]` stands at `at[i]`; halves: of their 95 % intervals, or None."""

    name: str
    at: np.ndarray
    values: np.ndarray
    halves: np.ndarray | None


def too_thin(inches: float, many: int, layers: int) -> bool:
    """Whether bars of so many series by so many layers cannot be seen in so many inches."""
    return FILLED * inches / max(many * layers, 1) < THINNEST


def aligned(values: np.ndarray | None, panel: Any, rows: list, columns: list) -> np.ndarray:
    """A panel's values at their own rows and columns of a larger table, NaN at those that it lacks; None: all NaN."""
    out = np.full((len(rows), len(columns)), np.nan)
    if values is not None:
        at = [rows.index(row) for row in panel.rows], [columns.index(column) for column in panel.columns]
        out[np.ix_(*at)] = values
    return out


def side_by_side(ax: Any, many: Sequence[Series], base: float = 0.0, lines: bool = False) -> None:
    """Draw the series in colours that are told apart, from the value that means nothing happened.

    Args:
        ax: a matplotlib Axes.
        many: up to eight series.
        base: where bars start.
        lines: draw lines with bands instead of bars with whiskers.
    """
    for k, (one, colour) in enumerate(zip(many, series(len(many)), strict=True)):
        look: dict[str, Any] = {"color": seen(colour), "label": escape(one.name)}
        if lines:
            _line(ax, one, DASHES[k % len(DASHES)], look)
        else:
            wide = FILLED / len(many)
            at = one.at + (k - (len(many) - 1) / 2) * wide
            ax.bar(at, one.values - base, wide, bottom=base, edgecolor=ink(0.8), linewidth=0.3, **look)
            whiskers(ax, at, one.values, one.halves, wide)
    ax.axhline(base, color=ink(), linewidth=0.8)
    least_span(ax, 1.0, base)


def _line(ax: Any, one: Series, dashes: str, look: dict[str, Any]) -> None:
    ax.plot(one.at, one.values, dashes, linewidth=1.4, **look)
    if one.halves is not None and not np.isnan(one.halves).all():
        ax.fill_between(one.at, one.values - one.halves, one.values + one.halves, **band(look["color"]))
