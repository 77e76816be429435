"""Means over pairs, ratios of means and differences between them, with 95 % intervals in which pairs are the units.

    found = ratio_of_means(numerators, denominators)   # [pairs, ...]; NaN where a pair has no such cell
    found.value, found.half, found.n                   # [...]

The standard error of a ratio of means is `sqrt(n / (n - 1) sum_i (x_i - R y_i)^2) / |sum_i y_i|` (Cochran 1977,
section 2.11), which is `s / sqrt(n)` of the x_i where each y_i is 1. Taking 1.96 of them supposes many pairs.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

NORMAL_95 = 1.96  # standard errors on either side
FEW = 10  # pairs below which 1.96 standard errors are plainly too few


class Paired(NamedTuple):
    """Two ratios over the same pairs, the half-width of the 95 % interval of their difference, and how many pairs."""

    first: np.ndarray
    second: np.ndarray
    half: np.ndarray
    n: np.ndarray


class Estimate(NamedTuple):
    """A number for each cell, the half-width of its 95 % interval, and the number of pairs that it rests on."""

    value: np.ndarray
    half: np.ndarray
    n: np.ndarray


def ratio_of_means(numerators: Any, denominators: Any) -> Estimate:
    """Mean over mean of the pairs that have a cell, with its interval.

    numerators: `[pairs, ...]`, NaN where a pair lacks the cell; denominators: the same or broadcast to it. The value is
    NaN where no pair has the cell, the half-width where fewer than two have it.
    """
    value, residuals, there = _linearised(numerators, denominators)
    n = there.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):  # cells without pairs, or with one, become NaN
        half = NORMAL_95 * np.sqrt(n / (n - 1) * (residuals.spread**2).sum(0)) / np.abs(residuals.total)
    return Estimate(value, np.where(n > 1, half, np.nan), n)


def mean_of(values: Any) -> Estimate:
    """Mean over the pairs that have a cell, `[pairs, ...]` with NaN where one lacks it, with its interval."""
    return ratio_of_means(values, np.ones(np.shape(values)))


def difference(first: tuple[Any, Any], second: tuple[Any, Any]) -> Paired:
    """Two ratios of means over the pairs that have the cell in both, and the interval of the first less the second.

    first, second: numerators and denominators as for `ratio_of_means`, pair by pair. Each ratio is linearised: pair i
    moves it by `d_i = (x_i - R y_i) / mean y`, and the interval is that of the mean of the differences of both d.
    """
    (x, u), (y, v) = (np.broadcast_arrays(*map(np.asarray, pair)) for pair in (first, second))
    shared = ~(np.isnan(x) | np.isnan(y))
    x, y = (np.where(shared, values, np.nan) for values in (x, y))
    (one, first_moves, there), (other, second_moves, _) = _linearised(x, u), _linearised(y, v)
    n = there.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        moves = n * (first_moves.spread / first_moves.total - second_moves.spread / second_moves.total)
        half = NORMAL_95 * np.sqrt(n / (n - 1) * (moves**2).sum(0)) / n
    return Paired(one, other, np.where(n > 1, half, np.nan), n)


def known(value: float) -> float | None:
    """A number for a table; None for NaN, which JSON has not."""
    return None if math.isnan(value) else float(value)


class _Residuals(NamedTuple):
    """What is left of each numerator, `x_i - R y_i`, 0 where a pair lacks the cell; and the sum of the denominators."""

    spread: np.ndarray
    total: np.ndarray


def _linearised(numerators: Any, denominators: Any) -> tuple[np.ndarray, _Residuals, np.ndarray]:
    x, y = np.broadcast_arrays(np.asarray(numerators, np.float64), np.asarray(denominators, np.float64))
    there = ~np.isnan(x)
    x, y = np.where(there, x, 0.0), np.where(there, y, 0.0)
    total = y.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(there.any(0), x.sum(0) / total, np.nan)
        return ratio, _Residuals(x - y * ratio, total), there
