"""Interventions against NumPy, and what they refuse."""

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace import interventions as iv
from mlxtrace.errors import EditError, InputError, PositionError

B, T, D = 2, 5, 4
DTYPES = [mx.float32, mx.float16, mx.bfloat16]


def draw(*shape, seed=0, dtype=mx.float32):
    return mx.random.normal(shape, key=mx.random.key(seed)).astype(dtype)


def n(x):
    return np.array(x.astype(mx.float32))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (D,), (T, D), (1, T, D), (B, T, D)])
@pytest.mark.parametrize("kind", ["mlx", "numpy"])
def test_replace_with_puts_the_value_in_x_dtype(shape, dtype, kind):
    x, value = draw(B, T, D, dtype=dtype), draw(*shape, seed=1)
    y = iv.replace_with(value if kind == "mlx" else np.array(value, dtype=np.float64))(x)
    assert y.dtype == dtype and y.shape == x.shape
    assert np.array_equal(n(y), np.broadcast_to(n(value.astype(dtype)), x.shape))


@pytest.mark.parametrize("shape", [(T,), (1, D), (1, 1, D), (T + 1, D), (3, T, D), (B, T, 1), (1, B, T, D)])
def test_a_value_that_does_not_fit_names_both_shapes(shape):
    with pytest.raises(EditError) as error:
        iv.replace_with(mx.zeros(shape))(draw(B, T, D))
    assert str(list(shape)) in str(error.value) and str([B, T, D]) in str(error.value)


@pytest.mark.parametrize("value", [None, "clean", True, {"a": 1}, [[1.0], [2.0, 3.0]]])
def test_a_value_that_is_no_array_is_refused_before_the_run(value):
    with pytest.raises(EditError, match="replace_with"):
        iv.replace_with(value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "positions",
    [
        0,
        -1,
        [1, 3],
        [3, 1],
        range(1, 4),
        slice(1, None),
        slice(None, None, 2),
        np.int64(2),
        (0, -1),
        slice(-2, None),
    ],
)
@pytest.mark.parametrize(
    "form", ["whole", "whole batch 1", "no batch", "rows", "rows no batch", "vector", "number"]
)
def test_replace_at(positions, form, dtype):
    x = draw(B, T, D, dtype=dtype)
    index = np.arange(T)[positions if not isinstance(positions, range | tuple) else list(positions)]
    index = np.atleast_1d(index)
    shape = {
        "whole": (B, T, D),
        "whole batch 1": (1, T, D),
        "no batch": (T, D),
        "rows": (B, len(index), D),
        "rows no batch": (len(index), D),
        "vector": (D,),
        "number": (),
    }[form]
    value = draw(*shape, seed=1)
    rows = n(value.astype(dtype))
    rows = rows[..., index, :] if form in ("whole", "whole batch 1", "no batch") else rows
    expected = n(x)
    expected[:, index] = rows
    y = iv.replace_at(value, positions)(x)
    assert y.dtype == dtype and np.array_equal(n(y), expected)


def test_replace_at_with_all_positions_reads_a_whole_activation():
    x, value = draw(B, T, D), draw(B, T, D, seed=1)
    assert np.array_equal(n(iv.replace_at(value, [4, 2, 0, 1, 3])(x)), n(value))


def test_edits_of_more_axes():
    x, value = draw(B, T, 3, D), draw(T, 3, D, seed=1)
    assert np.array_equal(n(iv.replace_at(value, 2)(x))[:, 2], np.broadcast_to(n(value)[2], (B, 3, D)))


@pytest.mark.parametrize("shape", [(3, D), (1, D), (B, 3, D), (3,), (T, D + 1)])
def test_replace_at_refuses_other_shapes(shape):
    with pytest.raises(EditError, match="positions"):
        iv.replace_at(mx.zeros(shape), [0, 1])(draw(B, T, D))


@pytest.mark.parametrize(
    "make", [lambda p: iv.replace_at(0.0, p), iv.zero_at, lambda p: iv.add_vector(1.0, p)]
)
@pytest.mark.parametrize("positions", [T, -T - 1, [0, T], range(3, T + 1), slice(2, T + 1), [], slice(3, 3)])
def test_positions_outside_say_what_is_valid(make, positions):
    with pytest.raises(PositionError, match=r"-5\.\.4"):
        make(positions)(draw(B, T, D))


@pytest.mark.parametrize("positions", ["last", 1.5, [True], [0, 0], [0, -T], None])
def test_positions_that_are_none(positions):
    with pytest.raises(InputError):
        iv.zero_at(positions)(draw(B, T, D))


def test_positions_need_an_axis():
    with pytest.raises(EditError, match="axis 1"):
        iv.zero_at(0)(mx.zeros((4,)))


def test_zero():
    x = draw(B, T, D)
    assert not n(iv.zero_out()(x)).any()
    expected = n(x)
    expected[:, [0, -1]] = 0
    assert np.array_equal(n(iv.zero_at([0, -1])(x)), expected)


def test_add_vector():
    x, v = draw(B, T, D), draw(D, seed=1)
    assert np.allclose(n(iv.add_vector(v)(x)), n(x) + n(v), rtol=0, atol=1e-7)
    expected = n(x)
    expected[:, 1:3] += n(v)
    assert np.allclose(n(iv.add_vector(v, slice(1, 3))(x)), expected, rtol=0, atol=1e-7)
    assert iv.add_vector(v)(x.astype(mx.float16)).dtype == mx.float16
    with pytest.raises(EditError):
        iv.add_vector(mx.zeros((D + 1,)))(x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scale_and_clamp(dtype):
    x = draw(B, T, D, dtype=dtype)
    y = iv.scale(-2)(x)
    assert y.dtype == dtype and np.array_equal(n(y), -2 * n(x))
    y = iv.clamp(-0.5, 0.25)(x)
    assert y.dtype == dtype and np.array_equal(n(y), np.clip(n(x), -0.5, 0.25))
    assert np.array_equal(n(iv.clamp(None, 0)(x)), np.minimum(n(x), 0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: iv.scale(float("nan")),
        lambda: iv.scale("2"),
        lambda: iv.scale(True),
        lambda: iv.clamp(1, 0),
        lambda: iv.clamp(0, float("inf")),
        lambda: iv.clamp(None, None),
        lambda: iv.noise(-1),
        lambda: iv.noise(float("nan")),
        lambda: iv.noise(1, seed=-1),
        lambda: iv.noise(1, seed=0.5),
        lambda: iv.compose(),
        lambda: iv.compose(iv.zero_out(), 3),
    ],
)
def test_numbers_without_meaning_are_refused_before_the_run(make):
    with pytest.raises(InputError):
        make()


def test_noise_is_the_same_on_every_call_and_leaves_the_global_state():
    x = mx.zeros((4, 500, 8))
    mx.random.seed(3)
    expected = n(mx.random.normal((4,)))
    mx.random.seed(3)
    blur = iv.noise(2.0, seed=5)
    first, second = n(blur(x)), n(blur(x))
    assert np.array_equal(n(mx.random.normal((4,))), expected)
    assert np.array_equal(first, second)
    assert abs(first.std() - 2) < 0.05 and abs(first.mean()) < 0.05
    assert not np.array_equal(first, n(iv.noise(2.0, seed=6)(x)))
    assert np.array_equal(n(iv.noise(0)(x)), n(x))
    assert blur(x.astype(mx.bfloat16)).dtype == mx.bfloat16


def test_compose_runs_the_first_one_first():
    x = draw(B, T, D)
    both = iv.compose(iv.add_vector(1.0), iv.scale(2))
    assert np.array_equal(n(both(x)), n((x + 1) * 2))
    assert repr(both) == "compose(add_vector(1), scale(2))"


def test_names():
    assert repr(iv.replace_at(mx.zeros((7, 4)), [3])) == "replace_at([7, 4], [3])"
    assert iv.zero_at(-1).__name__ == "zero_at(-1)"
    assert iv.noise(0.5).__name__ == "noise(0.5, seed=0)"


ALL = [
    iv.replace_with(1.0),
    iv.replace_at(1.0, 0),
    iv.zero_out(),
    iv.zero_at(0),
    iv.add_vector(1.0),
    iv.add_vector(1.0, 0),
    iv.scale(2),
    iv.clamp(-0.1, 0.1),
    iv.noise(1.0),
]


@pytest.mark.parametrize("edit", ALL, ids=repr)
def test_x_is_never_changed(edit):
    x = draw(B, T, D)
    before = n(x).copy()
    y = edit(x)
    y += 1
    y[:, 0] = 9
    assert np.array_equal(n(x), before)


@pytest.mark.parametrize("make", [iv.replace_with, iv.add_vector, lambda v: iv.replace_at(v, slice(None))])
def test_the_value_is_neither_changed_nor_followed(make):
    value, x = draw(B, T, D, seed=1), draw(B, T, D)
    edit, before = make(value), n(value).copy()
    expected = n(edit(x))
    y = edit(x)
    y *= 3  # the model may write to what was injected
    assert np.array_equal(n(value), before)
    value += 5  # and the user to what was given
    assert np.array_equal(n(edit(x)), expected)


@pytest.mark.parametrize("edit", [iv.add_vector(1.0, 0), iv.replace_at(1.0, 0), iv.scale(2)], ids=repr)
def test_edits_are_differentiable(edit):
    gradient = n(mx.grad(lambda x: edit(x).sum())(draw(1, 3, 2)))
    expected = {"scale(2)": 2}.get(repr(edit), 1) * np.ones((1, 3, 2))
    if repr(edit).startswith("replace_at"):
        expected[:, 0] = 0
    assert np.array_equal(gradient, expected)
