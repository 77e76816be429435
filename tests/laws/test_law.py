"""Laws and their errors: a law is its name, its doubt and its measurement; an error is relative, and never hides."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace.laws.law import Law, Measurement, as_numpy, differences, largest, law, listed, relative_error


def test_a_law_is_made_of_the_function_that_measures_it():
    @law("two and two are four", "arithmetic")
    def sums(tested):
        return Measurement(float(tested), 0.5)

    assert isinstance(sums, Law) and (sums.name, sums.distrust) == ("two and two are four", "arithmetic")
    assert sums(0.25) == sums.measure(0.25) == Measurement(0.25, 0.5, "")


def test_errors_are_relative_to_the_largest_value_of_the_right_side():
    assert relative_error(np.array([1.0, 9.0]), np.array([1.0, 10.0])) == pytest.approx(0.1)
    assert relative_error(mx.array([1.0, 9.0]), mx.array([1.0, 10.0])) == pytest.approx(0.1)
    assert relative_error(np.zeros(2), np.zeros(2)) == 0 < largest(np.zeros(2))


@pytest.mark.parametrize("wrong", [[np.nan, 1.0], [np.inf, 1.0], [1.0]])
def test_what_cannot_be_compared_is_infinitely_wrong(wrong):
    assert relative_error(np.array(wrong), np.array([2.0, 1.0])) == np.inf
    assert relative_error(mx.array(wrong), mx.array([2.0, 1.0])) == np.inf


def test_tokens_that_are_ruled_out_on_both_sides_are_alike():
    a, b = np.array([-np.inf, 1.0]), np.array([-np.inf, 2.0])
    assert differences(a, b).tolist() == [0, 1] and largest(b) == 2
    assert relative_error(a, b) == 0.5


def test_half_precision_becomes_numbers_that_numpy_has():
    assert as_numpy(mx.array([1.5], dtype=mx.bfloat16)).dtype == np.float32


def test_long_lists_say_how_many_more_there_are():
    assert listed("ab") == "a, b" and listed(range(5)) == "0, 1, 2 and 2 more"
