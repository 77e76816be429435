"""Traces of many prompts on two models: means, paired differences and intervals, by hand; and how they are told."""

import numpy as np
import pytest
from compared_traces import compared, trace

from mlxtrace.results.comparison import Comparison
from mlxtrace.results.comparison_set import ComparisonSet

LENGTHS = (6, 8, 4)  # tokens; the subject's are 1 and 2, so the last prompt has no further token
LAYERS = 4


@pytest.fixture(scope="module")
def scores():
    """For each prompt the scores of both models."""
    rng = np.random.default_rng(3)
    return [(rng.random((n, LAYERS)), rng.random((n, LAYERS))) for n in LENGTHS]


@pytest.fixture(scope="module")
def many(scores):
    return ComparisonSet([compared(*both) for both in scores], ["a", "b", "c"], ["a note"])


def test_means_and_intervals_by_hand(many, scores):
    roles = [
        "first subject token",
        "last subject token",
        "first subsequent token",
        "further tokens",
        "last token",
    ]
    assert many.roles == roles and many.counts == [3, 3, 3, 4, 3] and many.prompts == [3, 3, 3, 2, 3]
    for i, at in ((0, 1), (1, 2), (2, 3), (4, -1)):
        one, two = (np.array([both[k][at] for both in scores]) for k in range(2))
        np.testing.assert_allclose(many.first[i], one.mean(0))
        np.testing.assert_allclose(many.second[i], two.mean(0))
        np.testing.assert_allclose(many.difference[i], (two - one).mean(0), atol=1e-15)
        np.testing.assert_allclose(many.interval[i], 1.96 * (two - one).std(0, ddof=1) / np.sqrt(3))
        np.testing.assert_allclose(many.first_interval[i], 1.96 * one.std(0, ddof=1) / np.sqrt(3))
    inside = [
        both[1][4:-1] - both[0][4:-1] for both in scores[:2]
    ]  # tokens are pooled, prompts are the units
    mean, n = np.concatenate(inside).mean(0), 4
    np.testing.assert_allclose(many.difference[3], mean)
    spread = sum((x.sum(0) - len(x) * mean) ** 2 for x in inside)
    np.testing.assert_allclose(many.interval[3], 1.96 * np.sqrt(2 / 1 * spread) / n)


def test_a_difference_is_uncertain_when_its_interval_holds_zero(many):
    np.testing.assert_array_equal(many.uncertain, (many.low <= 0) & (many.high >= 0))
    np.testing.assert_allclose((many.high - many.low) / 2, many.interval)
    steady = [np.full((5, LAYERS), 0.25 * i) for i in range(3)]
    sure = ComparisonSet([compared(x, x + 0.5) for x in steady], ["0", "1", "2"])
    assert not sure.uncertain.any() and np.allclose(sure.interval, 0)


def test_correlations_leave_out_maps_that_are_flat(scores):
    flat = compared(scores[0][0], np.full((6, LAYERS), 0.2))
    singles = [compared(*both) for both in scores]
    known = np.array([one.correlation for one in singles])
    found = ComparisonSet([*singles, flat], ["a", "b", "c", "d"])
    assert found.correlation == pytest.approx(known.mean())
    assert found.correlation_interval == pytest.approx(1.96 * known.std(ddof=1) / np.sqrt(3))
    assert np.isnan(found.correlations[3]) and "1 without, whose map is flat" in repr(found)


def test_one_prompt_has_no_interval(scores):
    one = ComparisonSet([compared(*scores[0])], ["a"])
    assert np.isnan(one.interval).all() and one.uncertain.all() and np.isnan(one.correlation_interval)
    assert one.to_rows()[0]["low"] is None and f"correlation {one.correlation:.4f}, mean" in repr(one)
    assert "±" not in repr(one).split("difference\n")[1] and "nan" not in repr(one)


def test_rows_that_were_not_restored_are_in_no_role():
    singles = [compared([[0.3, 0.4]], [[0.5, 0.4]], positions=[2]) for _ in range(2)]
    found = ComparisonSet(singles, ["0", "1"])
    assert found.roles == ["last subject token", "last token"]  # 2 is the end of the prompt as well
    np.testing.assert_allclose(found.difference, [[0.2, 0.0]] * 2)


def test_peaks_are_counted_where_there_are_any():
    scores = np.full((5, LAYERS), 0.1)
    early, late = scores.copy(), scores.copy()
    early[1, 0] = late[4, 3] = 0.9
    moved, stayed = compared(early, late), compared(early, early)
    flat = Comparison(trace(early), trace(late, high=0.109), moved.names)
    other = Comparison(trace(early, high=0.109), trace(late), moved.names)
    assert ComparisonSet([other, moved], ["d", "a"]).without_peak == ["d"]
    found = ComparisonSet([moved, stayed, flat], ["a", "b", "c"])
    assert found.moved == ["a"] and found.without_peak == ["c"]
    text = repr(found)
    assert "the peak moved in 1 of 2 prompts: a (peaks within 1 % of the total effect count as ties)" in text
    assert "no peak in 1: c: " in text


def test_it_prints_its_rows_and_draws(many, tmp_path):
    text = repr(many)
    assert (
        "3 prompts on one and 4 bits" in text
        and "note: a note" in text
        and "3 prompts, 1.96 standard errors are too" in text
    )
    for i, role in enumerate(many.roles):
        layer = np.abs(many.difference[i]).argmax()
        line = next(line for line in text.splitlines() if line.strip().startswith(role))
        shown = f"{many.difference[i, layer]:+.4f} ± {many.interval[i, layer]:.4f} (layer {layer})"
        assert line.endswith(shown)
    rows = many.to_rows()
    assert len(rows) == many.difference.size and rows[0]["prompts"] == 3 and rows[0]["tokens"] == 3
    assert rows[1]["high"] == pytest.approx(many.difference[0, 1] + many.interval[0, 1])
    figure = many.plot(tmp_path / "set.png")
    meshes = [figure.axes[i].collections for i in range(3)]
    assert [len(found) for found in meshes] == [1, 1, 2] and (tmp_path / "set.png").is_file()
    strokes = meshes[2][1].get_segments()
    hatched = {tuple(np.floor(stroke.mean(0)).astype(int)) for stroke in strokes}  # (layer, role)
    coloured = np.abs(many.difference) > 0.1 * np.abs(many.difference).max()  # others look like none
    assert hatched == {(layer, role) for role, layer in np.argwhere(many.uncertain & coloured)}
    assert "hatched: the 95 % interval covers no effect" in figure.get_supxlabel()
    limits = [figure.axes[i].collections[0].norm for i in range(3)]
    assert (limits[0].vmin, limits[0].vmax) == (limits[1].vmin, limits[1].vmax)  # both models on one scale
    assert limits[2].vmax == -limits[2].vmin == pytest.approx(np.abs(many.difference).max())
