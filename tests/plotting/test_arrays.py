"""Arrays and names that users hand to figures: taken as numbers, or refused with the rule."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace.errors import InputError
from mlxtrace.plotting.arrays import labels_of, matrix, numbers

RULE = "values must be [layers, heads]"


@pytest.mark.parametrize(
    "given", [[[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], np.int8), mx.array([[1, 2], [3, 4]])]
)
def test_numbers_of_any_kind_become_float64(given):
    found = matrix(given, (2, None), RULE)
    assert found.dtype == np.float64 and found.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "given",
    [
        [1, 2],
        [[]],
        [[1], [2, 3]],
        [["a"]],
        [[1j]],
        [[True]],
        [[np.nan]],
        [[np.inf]],
        None,
        "text",
        [[1, 2, 3]] * 3,
    ],
)
def test_other_arrays_are_refused_with_the_rule(given):
    with pytest.raises(InputError, match=r"values must be \[layers, heads\], all finite"):
        matrix(given, (2, 3), RULE)


def test_any_number_of_axes():
    assert numbers(np.zeros((2, 3, 4)), RULE).shape == (2, 3, 4)


def test_names_fit_or_are_refused():
    assert labels_of("heads", None, 3) == ["0", "1", "2"] and labels_of("heads", range(4, 6), 2) == ["4", "5"]
    assert labels_of("heads", mx.array([7]), 1) == ["7"]
    for wrong, says in (("ab", "a list of 2 names"), (3, "a list of 2 names"), ([1], "has 2 heads")):
        with pytest.raises(InputError, match=says):
            labels_of("heads", wrong, 2)
