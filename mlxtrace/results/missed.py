"""What a screen may have missed: a bound from a random sample, and how well two rankings agree.

most_above(67_000, 300, 0)       # 664: with 95 % confidence at most so many of 67,000 are above, when 300 drawn are not
"""

from __future__ import annotations

import math

import numpy as np

CONFIDENCE = 0.95


def most_above(population: int, drawn: int, above: int, confidence: float = CONFIDENCE) -> int:
    """The most cells of a population that can be above a threshold, given how many of those drawn are.

    Drawn at random without replacement: the largest K for which `above` or fewer of the drawn ones have a probability
    of more than `1 - confidence` (Clopper and Pearson 1934, for the hypergeometric distribution). Whatever the true
    number is, it is larger than this in no more than `1 - confidence` of all samples. The threshold is chosen without
    a look at the sample.

    Args:
        population: cells that could have been drawn.
        drawn: how many were.
        above: how many of these are above the threshold.
        confidence: of the bound, one-sided.

    Returns:
        A number of cells, those that were found above among them.

    Example:
        >>> from mlxtrace.results.missed import most_above
        >>> most_above(100_000, 300, 0), most_above(100_000, 300, 3), most_above(50, 50, 3)
        (992, 2561, 3)
    """
    least, most = above, population - (drawn - above)  # what the sample itself leaves open
    while least < most:
        middle = (least + most + 1) // 2
        if _at_most(above, population, middle, drawn) > (1 - confidence) * (
            1 + 1e-9
        ):  # equal to it is not above
            least = middle
        else:
            most = middle - 1
    return least


def _at_most(x: int, population: int, marked: int, drawn: int) -> float:
    """The probability that no more than x of those drawn are marked."""
    first = max(0, drawn - (population - marked))
    logs = [_log_ways(marked, i) + _log_ways(population - marked, drawn - i) for i in range(first, x + 1)]
    if not logs:
        return 0.0
    total = _log_ways(population, drawn)
    return math.fsum(math.exp(log - total) for log in logs)


def _log_ways(n: int, k: int) -> float:
    """The logarithm of how many ways there are to draw k of n; -inf where there is none."""
    if not 0 <= k <= n:
        return -math.inf
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def correlation(x: np.ndarray, y: np.ndarray) -> float | None:
    """Pearson's r; None where there are fewer than three values, or one side is constant."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    a, b = x - x.mean(), y - y.mean()
    return float(np.clip((a / np.linalg.norm(a)) @ (b / np.linalg.norm(b)), -1, 1))


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float | None:
    """Spearman's rho: Pearson's r of the ranks, equal values with the mean of their ranks."""
    return correlation(_ranks(x), _ranks(y))


def _ranks(x: np.ndarray) -> np.ndarray:
    _, places, counts = np.unique(x, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[places]
