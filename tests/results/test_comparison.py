"""Two traces of one prompt: correlation, differences, and what counts as a peak that moved."""

from dataclasses import replace

import numpy as np
import pytest
from compared_traces import compared


def peaked(at, gap):
    """Scores `[4, 3]` whose peak is at one of two cells, the other one below it by so much of the total effect 0.8."""
    scores = np.full((4, 3), 0.1)
    scores[0, 0] = scores[3, 2] = 0.9 - 0.8 * gap
    scores[at] = 0.9
    return scores


@pytest.mark.parametrize(("gap", "moved"), [(1e-4, False), (0.0099, False), (0.0101, True), (0.5, True)])
def test_peaks_within_one_percent_of_the_total_effect_are_ties(gap, moved):
    found = compared(peaked((0, 0), gap), peaked((3, 2), gap))
    assert found.peak_moved == moved
    there = 0.9 - 0.8 * gap
    assert found.at_other_peak == pytest.approx((there, there))
    text = repr(found)
    assert f"the peak {'moved' if moved else 'stayed where it was'} (peaks within 1 % of the total" in text
    assert text.count("peak 0.9000 at layer 0") == 1 and text.count(f"{there:.4f} at the other's peak") == 2


def test_a_peak_that_moved_in_either_trace_has_moved():
    assert compared(peaked((0, 0), 0.0), peaked((3, 2), 0.5)).peak_moved
    assert not compared(peaked((0, 0), 0.5), peaked((0, 0), 0.0)).peak_moved
    one = compared(peaked((0, 0), 0.02), peaked((3, 2), 0.02))
    wide = replace(one, first=replace(one.first, low_score=-1.9), second=replace(one.second, low_score=-1.9))
    assert one.peak_moved and not wide.peak_moved  # of the total effect, not of a probability


def test_each_traces_score_stands_beside_the_others_peak():
    first, second = peaked((0, 0), 0.25), peaked((3, 2), 0.5)
    assert compared(first, second).at_other_peak == pytest.approx((0.7, 0.5))


def test_numbers_of_two_maps():
    rng = np.random.default_rng(0)
    first, second = rng.random((4, 3)), rng.random((4, 3))
    found = compared(first, second)
    np.testing.assert_allclose(found.difference, second - first)
    assert found.correlation == pytest.approx(np.corrcoef(first.ravel(), second.ravel())[0, 1])
    assert found.largest_difference == pytest.approx(np.abs(second - first).max())
    assert np.isnan(compared(first, np.full((4, 3), 0.2)).correlation)
    assert [row["difference"] for row in found.to_rows()] == pytest.approx((second - first).ravel())


def test_it_is_drawn(tmp_path):
    found = compared(peaked((0, 0), 0.5), peaked((3, 2), 0.5))
    assert len(found.plot(tmp_path / "two.png").axes) == 3 and (tmp_path / "two.png").is_file()
