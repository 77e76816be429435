"""Recoveries over samples, cell by cell: those of runs of as many samples, and intervals that hold as often as said."""

import numpy as np
import pytest

from mlxtrace.results.samples import of_corrupted, over_samples, stated, student_95

CLEAN = np.array([0.9])


def drawn(rng, cells=6, samples=12):
    """A metric of cells that bring back more and more, in a noise that they share."""
    corrupted = rng.uniform(0.0, 0.3, (1, samples))
    share = np.linspace(0, 1, cells)[None, :, None]
    own = rng.normal(0, 0.1, (1, cells, samples)) * share * (1 - share)
    return corrupted[:, None] + (share + own) * (0.9 - corrupted[:, None]), corrupted


def test_a_cell_has_the_recovery_of_a_run_of_its_samples():
    values, corrupted = drawn(np.random.default_rng(0))
    counts = np.array([2, 3, 5, 7, 11, 12])
    values[:, np.arange(12) >= counts[:, None]] = np.nan
    found = over_samples(values, corrupted, CLEAN, ["prob"])
    assert found.n[0].tolist() == counts.tolist()
    low = corrupted.mean()
    for i, n in enumerate(counts):
        x, y = values[0, i, :n] - corrupted[0, :n], 0.9 - corrupted[0, :n]
        ratio = x.mean() / y.mean()
        assert found.value[0, i] == pytest.approx(low + ratio * (0.9 - low), abs=1e-12)
        error = np.sqrt(((x - ratio * y) ** 2).sum() / (n * (n - 1))) / y.mean()
        assert found.half[0, i] == pytest.approx(100 * student_95(n - 1) * error, rel=1e-9, abs=1e-9)
    assert found.half[0, [0, -1]] == pytest.approx(0, abs=1e-9)  # nothing and all, with every noise


def test_all_samples_give_their_mean():
    values, corrupted = drawn(np.random.default_rng(1))
    found = over_samples(values, corrupted, CLEAN, ["prob"])
    np.testing.assert_allclose(found.value, values.mean(-1), atol=1e-12)


def test_without_a_gap_the_change_is_plain():
    """At level 0 every sample is the clean run."""
    values = np.full((1, 3, 4), 0.5)
    values[0, 2, 2:] = np.nan
    found = over_samples(values, np.full((1, 4), 0.5), [0.5], ["prob"])
    assert (found.value == 0.5).all() and (found.half == 0).all()
    values[0, 1] += [0.1, 0.2, 0.3, 0.2]
    found = over_samples(values, np.full((1, 4), 0.5), [0.5], ["prob"])
    assert found.value[0, 1] == pytest.approx(0.7) and found.half[0, 1] > 50


def test_metrics_are_apart():
    rng = np.random.default_rng(2)
    (a, x), (b, y) = drawn(rng), drawn(rng)
    both = over_samples(np.concatenate([a, b]), np.concatenate([x, y]), [0.9, 0.9], ["prob", "logit"])
    for i, (values, corrupted) in enumerate(((a, x), (b, y))):
        alone = over_samples(values, corrupted, CLEAN, [["prob", "logit"][i]])
        for name in ("value", "half", "n"):
            assert (getattr(both, name)[i] == getattr(alone, name)[0]).all()


def test_students_t():
    """Abramowitz and Stegun 1964, table 26.10."""
    table = {
        1: 12.706,
        2: 4.303,
        3: 3.182,
        4: 2.776,
        5: 2.571,
        8: 2.306,
        12: 2.179,
        30: 2.042,
        60: 2.000,
        120: 1.980,
    }
    np.testing.assert_allclose(student_95(list(table)), list(table.values()), atol=1e-3)
    assert np.isnan(student_95(0))


@pytest.mark.parametrize("n", [4, 13])
def test_intervals_hold_as_often_as_they_say(n):
    rng, held = np.random.default_rng(n), []
    for _ in range(400):
        corrupted = rng.normal(0.2, 0.05, (1, n))
        values = corrupted[:, None] + rng.normal(0.3, 0.1, (1, 1, n))
        found = over_samples(values, corrupted, CLEAN, ["prob"])
        recovery = (found.value - corrupted.mean()) / (0.9 - corrupted.mean())
        held.append(abs(100 * recovery[0, 0] - 100 * 0.3 / 0.7) <= found.half[0, 0])
    assert 0.92 <= np.mean(held) <= 0.98


def test_the_gap_and_what_is_stated():
    gap = of_corrupted([[0.1, 0.3, 0.2, 0.2]], [0.9], ["prob"])
    assert gap[0] == pytest.approx(100 * 3.182446 * np.std([1, 3, 2, 2], ddof=1) / 10 / 2 / 0.7, rel=1e-5)
    assert stated(np.array([0.0, 1.0, 12.0]), 10.0).tolist() == [0.0, 10.0, 12.0]


def test_rounding_is_no_spread():
    """Of a probability of 0.2, differences below 2e-5 mean nothing, wherever kernels put the last bits."""
    clean, corrupted = np.array([0.2]), np.array([[0.2 + 1e-6, 0.2 - 1e-6]])
    values = np.array([[[0.2, 0.2 + 1e-6], [0.2, 0.2 + 1e-3]]])
    rounding, spread = over_samples(values, corrupted, clean, ["prob"]).half[0]
    assert rounding == 0 and spread > 100 and of_corrupted(corrupted, clean, ["prob"]) == 0
    assert of_corrupted(corrupted + np.array([0, 1e-3]), clean, ["prob"]) > 100
    assert np.isnan(over_samples(values[..., :1], corrupted[:, :1], clean, ["prob"]).half[0]).all()
    [close] = over_samples(corrupted[None] + [[[0, 1e-6]]], corrupted, np.array([0.7]), ["prob"]).half[0]
    assert 0 < close < 1e-2, "over a gap that means something nothing is left out"
