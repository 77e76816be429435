"""Indices: those of NumPy, on arrays of MLX, or an error that names the axis."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace import errors
from mlxtrace.forward.index import check_index, first_axis, plain_index

SHAPE = (2, 5, 3)
X = np.arange(30, dtype=np.float32).reshape(SHAPE)

RIGHT = {
    "int": 1,
    "negative": (0, -5),
    "NumPy's int": (np.int64(1), np.int32(-1)),
    "slice": (slice(None), slice(1, 4)),
    "slice past the end": (0, slice(3, 9)),
    "list": (slice(None), [0, 4, 4]),
    "range": (slice(None), range(1, 4)),
    "two lists": ([0, 1], [4, 2]),
    "an array": (slice(None), np.array([[0, 1], [2, 3]])),
    "ellipsis": (..., 2),
    "a new axis": (None, 1, ..., None),
    "a mask": (slice(None), np.array([True, False, True, False, False])),
    "a list of booleans": (slice(None), [True, False, True, False, True]),
    "a mask of two axes": np.arange(10).reshape(2, 5) % 3 == 0,
}


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_read_is_what_numpy_reads(case):
    check_index(RIGHT[case], SHAPE, "x")
    found = mx.array(X)[plain_index(RIGHT[case])]
    assert np.array_equal(np.array(found), X[RIGHT[case]])


WRONG = {
    "past the end": ((0, 5), False, "index 5 is outside axis 1 of x.*0 to 4"),
    "below": ((0, -6), False, "-6"),
    "unsigned": ((0, np.array([7], np.uint8)), False, "7"),
    "in a list": ((slice(None), [0, 9]), False, "index 9"),
    "after an ellipsis": ((..., 3), False, "axis 2"),
    "after a new axis": ((None, 2), False, "axis 0"),
    "after a mask of two axes": ((np.ones((2, 5), bool), 3), False, "axis 2"),
    "too many": ((0, 0, 0, 0), False, "3 axes .*4 were indexed"),
    "text": ((0, "a"), False, "cannot be indexed by 'a'"),
    "a number": ((0, 1.0), False, "cannot be indexed by 1.0"),
    "a boolean": ((0, True), False, "cannot be indexed by True"),
    "floats": ((0, np.array([1.0])), False, "float64"),
    "ragged": (([[1], [2, 3]],), False, "cannot be indexed"),
    "a short mask": ((0, np.ones(4, bool)), False, r"\(4,\) does not fit \(5,\)"),
    "written, a slice past the end": ((0, slice(3, 9)), True, "3:9 leaves axis 1"),
    "written, nothing": ((0, slice(3, 3)), True, "selects nothing"),
    "written, an empty list": ((0, []), True, "selects nothing"),
    "written, an empty mask": ((0, np.zeros(5, bool)), True, "selects nothing"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_lies_outside_names_the_place(case):
    index, edit, text = WRONG[case]
    with pytest.raises(errors.PositionError, match=text):
        check_index(index, SHAPE, "x", edit=edit)


@pytest.mark.parametrize("index", [(0, slice(3, 9)), (0, []), (0, np.zeros(5, bool))])
def test_reading_nothing_is_allowed(index):
    check_index(index, SHAPE, "x")


def test_an_index_is_a_handle_of_its_own():
    where = mx.array([1, 2])
    kept = plain_index((slice(None), where))
    where[0] = 4
    assert kept[1].tolist() == [1, 2]


def test_an_index_without_values_yet_is_not_checked():
    """Inside a transformation of MLX, where arrays are computed later."""

    def read(where):
        with pytest.raises(ValueError, match="transform"):
            np.array(where)
        check_index((0, where), SHAPE, "x", edit=True)
        check_index((0, where > 9), (2, 1), "x", edit=True)
        return mx.array(X)[0, plain_index(where)]

    assert np.array_equal(np.array(mx.vmap(read)(mx.array([[1], [4]])))[:, 0], X[0, [1, 4]])


def test_the_part_of_an_index_that_is_for_the_first_axis():
    every = slice(None)
    assert first_axis(3, 3, "x") == (3, ()) and first_axis((), 3, "x") == (every, ())
    assert first_axis((1, ..., 2), 4, "x") == (1, (every, every, 2))
    assert first_axis((..., 2), 3, "x") == (every, (every, 2)) and first_axis(..., 2, "x") == (
        every,
        (every,),
    )
    assert first_axis((..., 0, 1, 2), 3, "x") == (0, (1, 2))  # the Ellipsis stands for nothing
    assert first_axis((..., None, 2), 2, "x") == (every, (None, 2))
    first, (last,) = first_axis(([0, 1], [True, False]), 2, "x")
    assert first.tolist() == [0, 1] and last.tolist() == [True, False]
    with pytest.raises(errors.PositionError, match="Ellipses"):
        first_axis((..., 0, ...), 3, "x")
