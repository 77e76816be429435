"""Results side by side: labels that some lack, and which of many is meant."""

from __future__ import annotations

import numpy as np
import pytest

from mlxtrace.errors import InputError
from mlxtrace.results.one_kind import notes_over, place_of, shared, some, stacked, unstacked


def test_stacking_and_back():
    rng = np.random.default_rng(0)
    labels, regions = [["b", "a"], ["c"]], ["a", "b", "c"]
    arrays = [rng.normal(size=(2, len(own), 4)) for own in labels]
    dims = ("layer", "region", "head")
    whole = stacked(arrays, dims, labels, regions)
    assert whole.shape == (2, 2, 3, 4) and np.isnan(whole[0, :, 2]).all() and np.isnan(whole[1, :, :2]).all()
    np.testing.assert_array_equal(whole[0, :, 0], arrays[0][:, 1])
    for values, own, array in zip(whole, labels, arrays, strict=True):
        np.testing.assert_array_equal(unstacked(values, dims, own, regions), array)
    np.testing.assert_array_equal(unstacked(arrays[0], ("layer",), None, []), arrays[0])


def test_which_pair_is_meant():
    assert [place_of(which, ["x", "y"]) for which in ("y", 0, -1, np.int64(1))] == [1, 0, 1, 1]
    for wrong in ("z", 2, 0.0, None):
        with pytest.raises(InputError):
            place_of(wrong, ["x", "y"])


def test_words_on_many():
    assert some("abc") == "a, b, c" and some("abcdefgh", 2) == "a, b and 6 more"
    assert shared([1, 1]) == 1 and shared([1, 2]) is None
    notes = notes_over([["n"], ["n", "m", "m"], ["n", "o", "p", "q"]])
    assert notes[0] == "n" and notes[1] == "1 of 3 pairs: m" and notes[-1].startswith("1 more")
