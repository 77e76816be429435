"""What goes into a figure of a large result: the rows that matter, and as many heads as a file holds."""

import numpy as np
import pytest

from mlxtrace.errors import InputError
from mlxtrace.interactive import crops
from mlxtrace.plotting.heatmaps import Map, Scale

SCALE = Scale(0.0, 100.0, 0.0)


def one(values, **more):
    values = np.asarray(values, float)
    return Map(values, [f"r{i}" for i in range(len(values))], ["0"] * values.shape[1], "mlp", **more)


def test_short_maps_are_whole():
    maps = [one(np.zeros((5, 2)))]
    assert crops.rows_that_matter(maps, SCALE) == (maps, [])


def test_cut_rows_are_marked_in_values_intervals_and_names():
    values, halves = np.zeros((2, 100, 3)), np.arange(300.0).reshape(100, 3)
    values[1, 40, 2] = 90
    cropped, said = crops.rows_that_matter([one(v, halves=halves) for v in values], SCALE, keep=[99])
    assert cropped[0].rows == cropped[1].rows == ["⋮ 0-39", "r40", "⋮ 41-98", "r99"]
    np.testing.assert_array_equal(cropped[1].values[[1, 3]], values[1][[40, 99]])
    np.testing.assert_array_equal(cropped[0].halves[[1, 3]], halves[[40, 99]])
    assert np.isnan(cropped[0].values[[0, 2]]).all() and "rows 0-39 are 0" in said[0]


def test_many_cuts_have_no_rows_of_their_own():
    values = np.zeros((200, 1))
    values[::10] = 80
    (cropped,), said = crops.rows_that_matter([one(values, halves=values)], SCALE)
    assert cropped.rows == [f"r{i}" for i in range(0, 200, 10)] and (cropped.values == 80).all()
    assert (cropped.halves == 80).all() and "180 of 200 rows are not shown" in said[0]


def test_positions_have_their_own_numbers():
    values = np.zeros((100, 1))
    values[7] = 50
    cropped, said = crops.rows_that_matter([one(values)], SCALE, labels=range(300, 400))
    assert "r7" in cropped[0].rows and "⋮ 300-306" in cropped[0].rows and "300-306" in said[0]


def test_as_many_heads_as_fit_the_strongest(monkeypatch):
    maps = [one(np.full((10, 10), strength)) for strength in (5.0, 90.0, -80.0, 1.0)]
    assert crops.heads_that_fit(maps, range(4), SCALE) == ([0, 1, 2, 3], [])
    monkeypatch.setattr(crops, "CELLS", 250)
    found, said = crops.heads_that_fit(maps, range(4), SCALE)
    assert found == [1, 2] and "the 2 strongest of 4" in said[0] and "at most 5 from no effect" in said[0]
    noised = Scale(0.0, 100.0, 100.0, flip=True)  # there 100 is no effect
    assert crops.heads_that_fit(maps, range(4), noised)[0] == [2, 3]
    assert crops.heads_that_fit(maps, range(4), SCALE, "all") == ([0, 1, 2, 3], [])
    assert crops.heads_that_fit(maps, range(4), SCALE, [3]) == ([3], [])
    assert crops.heads_that_fit(maps, [0, 1, 0, 1], SCALE, 1) == ([1, 3], [])
    for odd in ([9], [], "some", None):
        with pytest.raises(InputError):
            crops.heads_that_fit(maps, range(4), SCALE, odd)
