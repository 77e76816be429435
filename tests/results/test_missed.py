"""The bound on what a screen missed: exact, and right in 95 of 100 samples of populations that are known."""

import math

import numpy as np
import pytest

from mlxtrace.results.missed import correlation, most_above, rank_correlation


def at_most(x, population, marked, drawn):
    """The same probability in whole numbers."""
    ways = sum(
        math.comb(marked, i) * math.comb(population - marked, drawn - i) for i in range(x + 1) if i <= drawn
    )
    return ways / math.comb(population, drawn)


@pytest.mark.parametrize("population", [1, 2, 7, 40])
def test_the_bound_is_the_largest_number_that_the_sample_leaves_likely(population):
    for drawn in range(population + 1):
        for above in range(drawn + 1):
            possible = range(above, population - (drawn - above) + 1)
            likely = [k for k in possible if at_most(above, population, k, drawn) > 0.05]
            assert most_above(population, drawn, above) == max(likely), (drawn, above)


def test_ends():
    assert most_above(0, 0, 0) == 0 and most_above(10, 0, 0) == 10  # nothing to be missed; nothing known
    assert most_above(50, 50, 3) == 3 and most_above(50, 50, 0) == 0  # all were drawn
    for n in (100, 300, 1000):  # the rule of three, for any population
        assert most_above(10**6, n, 0) / 10**6 < 3 / n
    found = [most_above(374_584, 300, x) for x in range(6)]
    assert found == sorted(found) and found[0] / 374_584 == pytest.approx(1 - 0.05 ** (1 / 300), rel=0.01)


@pytest.mark.parametrize(
    ("population", "marked", "drawn"),
    [
        (500, 0, 60),
        (500, 5, 60),
        (500, 24, 60),
        (500, 25, 60),
        (200, 150, 199),
        (60, 3, 40),
        (5000, 50, 300),
        (9, 4, 5),
    ],
)
def test_right_in_95_of_100_samples(population, marked, drawn):
    """Its exact chance to be right, over all samples that there are."""
    right = sum(
        at_most(x, population, marked, drawn) - (at_most(x - 1, population, marked, drawn) if x else 0)
        for x in range(min(marked, drawn) + 1)
        if most_above(population, drawn, x) >= marked
    )
    assert right >= 0.95 - 1e-12


@pytest.mark.parametrize("kind", ["smooth", "ties", "all alike", "edge"])
def test_right_for_thresholds_from_the_verified_cells(kind):
    """Populations of effects, screened by a bad estimate; ties with the threshold are not above it."""
    random, right = np.random.RandomState(3), []
    for _ in range(300):
        effects = np.abs(random.standard_t(2, 600))
        if kind == "ties":
            effects = np.round(effects, 0)
        if kind == "all alike":
            effects[:] = 0.5
        if kind == "edge":
            effects[100:] = np.sort(effects[:40])[-10]
        order = np.argsort(-(effects + 3 * random.randn(600)))
        verified, rest = order[:40], order[40:]
        threshold = np.sort(effects[verified])[-10]
        drawn = random.permutation(rest)[:80]
        bound = most_above(len(rest), len(drawn), int((effects[drawn] > threshold).sum()))
        right.append((effects[rest] > threshold).sum() <= bound)
    assert (
        np.mean(right) >= 0.95 - 0.03
    )  # the law's own chance is above 0.95; three standard errors of 300 draws


def test_correlations():
    x = np.array([1.0, 2, 3, 4, 10])
    assert correlation(x, 3 * x - 1) == pytest.approx(1) and rank_correlation(x, x**3) == pytest.approx(1)
    assert rank_correlation(x, -(x**3)) == pytest.approx(-1) and correlation(x, x**3) < 0.99
    assert correlation(x, np.array([2.0, 1, 4, 3, 5])) == pytest.approx(np.corrcoef(x, [2, 1, 4, 3, 5])[0, 1])
    assert rank_correlation(np.array([1.0, 1, 2]), np.array([5.0, 5, 7])) == pytest.approx(
        1
    )  # mean ranks of ties
    assert correlation(x, np.ones(5)) is None and correlation(x[:2], x[:2]) is None
    assert correlation(np.array([]), np.array([])) is None
