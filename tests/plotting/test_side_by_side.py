"""Several series on one axes: bars where they are seen, else lines, in colours that are told apart."""

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from test_patching_result import make

from mlxtrace.plotting.colours import SERIES
from mlxtrace.plotting.side_by_side import Series, aligned, side_by_side, too_thin


def test_bars_stand_beside_each_other_from_the_value_of_nothing():
    ax = Figure().subplots()
    many = [
        Series("a", np.arange(3), np.array([90.0, 120, 100]), None),
        Series("b", np.array([2]), np.ones(1), None),
    ]
    side_by_side(ax, many, base=100.0)
    first, second = ax.containers
    np.testing.assert_allclose([bar.get_y() + bar.get_height() for bar in first.patches], [90, 120, 100])
    assert second.patches[0].get_x() > 2 - 1e-9 and to_hex(first.patches[0].get_facecolor()) == SERIES[0]
    assert ax.lines[-1].get_ydata()[0] == 100.0


def test_lines_have_their_bands_and_dashes():
    ax, values, halves = Figure().subplots(), np.array([1.0, 2.0, 0.5]), np.array([0.1, 0.2, 0.1])
    side_by_side(
        ax, [Series("$a", np.arange(3), values, halves), Series("b", np.arange(3), values, None)], lines=True
    )
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), values)
    (band,) = ax.collections
    assert band.get_paths()[0].vertices[:, 1].max() == 2.2 and ax.lines[0].get_label() == r"\$a"
    assert ax.lines[0].get_linestyle() != ax.lines[1].get_linestyle()


def test_bars_that_cannot_be_seen_are_too_thin():
    assert not too_thin(5.0, 2, 12) and not too_thin(11.0, 2, 80)
    assert too_thin(11.0, 4, 80) and too_thin(11.0, 2, 126)


def test_values_of_another_depth_stand_at_their_own_places():
    (panel,) = make(
        [[0.2, 0.3], [0.4, 0.5]], ("layer", "head"), coords={"layer": [1, 3], "head": [0, 1]}
    ).panels()
    found = aligned(panel.values, panel, [0, 1, 2, 3], [0, 1, 2])
    np.testing.assert_array_equal(np.isnan(found), [[1, 1, 1], [0, 0, 1], [1, 1, 1], [0, 0, 1]])
    np.testing.assert_allclose(found[[1, 3], :2], panel.values)
    assert np.isnan(aligned(None, panel, [1, 3], [0, 1])).all()
