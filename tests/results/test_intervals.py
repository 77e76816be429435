"""Intervals over pairs: by hand, with cells that pairs lack, and how often they hold what they should."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlxtrace.results.intervals import difference, known, mean_of, ratio_of_means


def by_hand(x, y):
    """Ratio of means and its half-width in plain loops."""
    there = [i for i in range(len(x)) if not math.isnan(x[i])]
    n, top, bottom = len(there), sum(x[i] for i in there), sum(y[i] for i in there)
    ratio = top / bottom
    squares = sum((x[i] - ratio * y[i]) ** 2 for i in there)
    return ratio, 1.96 * math.sqrt(n / (n - 1) * squares) / abs(bottom), n


@pytest.mark.parametrize("sign", [1, -1])
def test_a_ratio_of_means_by_hand_where_pairs_lack_cells(sign):
    rng = np.random.default_rng(0)
    y = sign * rng.uniform(0.5, 2, (12, 1, 1))
    x = rng.normal(size=(12, 3, 4))
    x[rng.uniform(size=x.shape) < 0.3] = np.nan
    found = ratio_of_means(x, y)
    for cell in np.ndindex(3, 4):
        expected = by_hand(x[:, *cell], y[:, 0, 0])
        np.testing.assert_allclose([part[cell] for part in found], expected, rtol=1e-12)
        assert found.half[cell] > 0


def test_a_mean_s_interval_is_the_usual_one():
    values = np.random.default_rng(1).normal(3, 2, (20, 5))
    found = mean_of(values)
    np.testing.assert_allclose(found.value, values.mean(0))
    np.testing.assert_allclose(found.half, 1.96 * values.std(0, ddof=1) / np.sqrt(20))


def test_one_pair_has_no_interval_and_none_no_value():
    values = np.array([[1.0, np.nan, 2.0], [3.0, np.nan, np.nan]])
    found = mean_of(values)
    np.testing.assert_array_equal(found.value, [2, np.nan, 2])
    np.testing.assert_array_equal(np.isnan(found.half), [False, True, True])
    assert found.n.tolist() == [2, 0, 1]
    assert np.isnan(mean_of(values[:0]).value).all()
    assert known(found.value[0]) == 2.0 and known(found.value[1]) is None


def test_missing_pairs_count_as_absent_and_not_as_nothing():
    some, pad = np.random.default_rng(2).normal(5, 1, (6, 2)), np.full((3, 2), np.nan)
    for a, b in zip(mean_of(np.concatenate([some, pad])), mean_of(some), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_paired_difference_by_hand():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 9, 4))
    u, v = rng.uniform(1, 2, (2, 9, 1))
    x[0, 1] = y[4, 1] = x[2, 3] = np.nan
    found = difference((x, u), (y, v))
    for c in range(4):
        there = [i for i in range(9) if not (math.isnan(x[i, c]) or math.isnan(y[i, c]))]
        n, mean_u, mean_v = len(there), np.mean(u[there]), np.mean(v[there])
        one, other = np.mean(x[there, c]) / mean_u, np.mean(y[there, c]) / mean_v
        moves = [(x[i, c] - one * u[i, 0]) / mean_u - (y[i, c] - other * v[i, 0]) / mean_v for i in there]
        half = 1.96 * math.sqrt(n / (n - 1) * sum(d * d for d in moves)) / n
        np.testing.assert_allclose([part[c] for part in found], [one, other, half, n], rtol=1e-12)


def test_a_difference_from_oneself_is_certainly_nothing():
    x, u = np.random.default_rng(4).normal(size=(5, 3)), np.full((5, 1), 2.0)
    found = difference((x, u), (x, u))
    assert not (found.first - found.second).any() and not found.half.any()


def test_what_pairs_share_makes_no_difference_uncertain():
    """The interval of a paired difference is narrow where both move together."""
    rng = np.random.default_rng(5)
    base, ones = rng.normal(0, 5, (30, 1)), np.ones((30, 1))
    x, y = base + rng.normal(0, 0.1, (30, 1)), base + 1
    assert difference((x, ones), (y, ones)).half < 0.1 < mean_of(x).half


def test_about_95_of_a_hundred_intervals_hold_the_truth():
    """4,000 sets of 40 pairs; the truth is mean over mean, and not the mean of the ratios."""
    rng = np.random.default_rng(6)
    gap = rng.uniform(0.2, 1.8, (40, 4000))
    patched = gap * (0.6 - 0.3 * gap) + rng.normal(0, 0.1, gap.shape)
    truth = 0.6 - 0.3 * (1 + (1.6**2) / 12)  # E[g (0.6 - 0.3 g)] / E[g], with E[g] = 1
    found = ratio_of_means(patched, gap)
    held = np.mean(np.abs(found.value - truth) < found.half)
    assert 0.91 < held < 0.97
    more = patched + 0.1 * gap + rng.normal(0, 0.1, gap.shape)
    apart = difference((patched, gap), (more, gap))
    assert 0.91 < np.mean(np.abs(apart.first - apart.second + 0.1) < apart.half) < 0.97
