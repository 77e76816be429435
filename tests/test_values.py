"""What may be put into an activation, and what is said of the rest."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace import errors, values

X = mx.zeros((2, 3, 4))


@pytest.mark.parametrize("value", [1, -2.5, np.float64(3), np.int32(3), mx.array(2.0), np.array(7)])
def test_finite_numbers(value):
    assert values.finite_number(value, "k") == float(value)


@pytest.mark.parametrize(
    "value", [True, "1", None, float("nan"), float("inf"), 1e39, np.nan, 1j, mx.ones(2), np.True_]
)
def test_other_numbers(value):
    with pytest.raises(errors.InputError, match=r"^k"):
        values.finite_number(value, "k")


@pytest.mark.parametrize("value", [True, np.array([True]), mx.array([False]), 1j, np.ones(2, complex)])
def test_what_no_activation_holds(value):
    with pytest.raises(errors.EditError, match="real numbers"):
        values.real(value, "x")


def test_what_an_activation_may_hold():
    for value in (1, 1.0, np.float16(1), mx.ones(2, mx.bfloat16), [1]):
        values.real(value, "x")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "str"), (None, "NoneType"), (True, "bool"), ([], "empty"), (mx.zeros((0, 3)), "empty"),
        (np.array(["a"]), "not"), ([True, False], "list"), (np.ones(2, complex), "complex64"),
        (mx.array([1.0, float("nan")]), "NaN"), (np.array([np.nan]), "NaN"), ([[1], [2, 3]], "list"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_put_anywhere(value, text):
    with pytest.raises(errors.EditError, match=f"(?s)put: .*{text}"):
        values.as_array(value, "put")


def test_a_value_is_on_a_handle_of_its_own():
    x = mx.ones(2)
    kept = values.as_array(x, "put")
    x += 1
    assert kept.tolist() == [1, 1] and values.as_array([1, 2], "put").tolist() == [1, 2]
    assert values.as_array(mx.array([float("inf")]), "put").item() == float("inf")  # a mask


@pytest.mark.parametrize("shape", [(), (4,), (3, 4), (1, 3, 4), (2, 3, 4)])
def test_shapes_that_fit(shape):
    assert values.fits(mx.ones(shape), X.shape)
    assert values.fitted(mx.ones(shape), X.shape, X, "put").shape == X.shape


@pytest.mark.parametrize("shape", [(1,), (3,), (1, 4), (2, 4), (3, 1), (2, 1, 4), (1, 2, 3, 4), (3, 3, 4)])
def test_nothing_else_is_stretched(shape):
    assert not values.fits(mx.ones(shape), X.shape)
    with pytest.raises(errors.EditError, match="does not fit"):
        values.fitted(mx.ones(shape), X.shape, X, "put")


def test_rows_of_a_whole_activation_and_rows_for_each_position():
    whole = mx.arange(12.0).reshape(3, 4)
    index = mx.array([2, 0])
    assert values.rows_at(whole, index, X, "put")[1].tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
    assert values.rows_at(whole[:2], index, X, "put")[1].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(errors.EditError, match="2 chosen positions"):
        values.rows_at(mx.ones((4, 4)), index, X, "put")


def test_positions_and_what_is_put_there():
    index = values.index_of(X, slice(1, 3), "put")
    assert index.tolist() == [1, 2]
    y = values.put_at(X, index, mx.array(5.0))
    assert y[0, :, 0].tolist() == [0, 5, 5] and X.sum().item() == 0
    with pytest.raises(errors.EditError, match="along axis 1"):
        values.index_of(mx.ones(3), 0, "put")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "return the array"), (0.0, r"site\.output\[\.\.\.\]"), ([1.0], "not list"),
        (mx.ones((2, 3)), "shape"), (mx.ones((2, 3, 4)) > 0, "bool"), (mx.ones((2, 3, 4), mx.complex64), "complex"),
    ],
)  # fmt: skip
def test_what_cannot_stand_in_a_sites_place(value, text):
    with pytest.raises(errors.EditError, match=f"(?s)the site .*{text}"):
        values.checked(value, X, "the site")


def test_what_stands_in_a_sites_place_has_its_dtype_and_is_no_ones_else():
    given = mx.ones(X.shape, mx.int32)
    found = values.checked(given, X.astype(mx.float16), "the site")
    assert found.dtype == mx.float16
    same = values.checked(X, X, "the site")
    same += 1
    assert X.sum().item() == 0
    assert values.checked(np.ones(X.shape), X, "the site").dtype == mx.float32


BROKEN = mx.array([1.0, float("nan"), float("inf"), -float("inf")])


def test_what_an_edit_breaks_is_counted():
    with pytest.raises(errors.EditError, match="the edit of mlp made 3 of its 4 numbers NaN or infinite"):
        values.unbroken(mx.ones(4), BROKEN, "mlp")
    with pytest.raises(errors.EditError, match="made 2 of"):  # a token may be ruled out
        values.unbroken(mx.ones(4), BROKEN, "logits")


def test_what_was_broken_before_may_stay_so():
    assert values.unbroken(BROKEN, BROKEN, "mlp") is BROKEN
    assert values.unbroken(BROKEN, mx.ones(4), "mlp").sum().item() == 4


def test_inside_a_gradient_nothing_is_looked_at():
    def loss(x):
        y = values.unbroken(x, x * 2, "mlp")
        return values.as_array(y * 1, "put").sum()

    assert mx.grad(loss)(mx.ones(3)).tolist() == [2.0, 2.0, 2.0]
