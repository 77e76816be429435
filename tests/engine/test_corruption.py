"""Corruption against NumPy formulas: levels, the draw, and putting the noise there."""

import math

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace.engine import corruption as c
from mlxtrace.errors import EditError, InputError, PositionError


@pytest.mark.parametrize(
    ("level", "kind", "value"),
    [
        ("s3", "s", 3),
        ("s", "s", 1),
        ("s1.5", "s", 1.5),
        (0.13, "abs", 0.13),
        ("0.13", "abs", 0.13),
        (0, "abs", 0),
        (np.float32(0.5), "abs", 0.5),
        ("u3", "u", 3),
    ],
)
def test_levels(level, kind, value):
    assert c.parse_level(level) == c.NoiseLevel(kind, value)


@pytest.mark.parametrize(
    "level",
    ["", "m", "t3", "u", "s-1", "x3", "snan", "3s", -0.1, math.nan, math.inf, True, None, [3], "sinf"],
)
def test_levels_without_meaning_name_the_valid_forms(level):
    with pytest.raises(InputError, match=r'"s3".*"u3"'):
        c.parse_level(level)
    with pytest.raises(InputError):
        c.GaussianNoise("x", level=level)


@pytest.mark.parametrize(
    "bad",
    [
        {"samples": 0},
        {"samples": 2.0},
        {"samples": True},
        {"seed": -1},
        {"seed": "1"},
        {"seed": 2**32},
        {"replace": 1},
        {"subject": " "},
        {"subject": 3.5},
    ],
)
def test_noise_is_checked_when_it_is_made(bad):
    with pytest.raises(InputError):
        c.GaussianNoise(**{"subject": "Eiffel Tower", **bad})


@pytest.mark.parametrize("bad", ["", [], None, 3, np.array(3)])
def test_a_substitution_needs_a_prompt(bad):
    with pytest.raises(InputError):
        c.Substitution(bad)


def test_descriptions_read_well():
    noise = c.GaussianNoise("Eiffel Tower")
    assert (noise.level, noise.samples, noise.seed, noise.replace) == ("s3", 10, 1, False)
    assert str(noise.parsed_level) == "3 x std of the embeddings"
    assert str(c.parse_level("u3")) == "uniform in [-3, 3]" and str(c.parse_level(0.1)) == "std 0.1"
    assert c.Substitution("The Louvre").text == "The Louvre"


def test_noise_is_the_authors_draw():
    expected = np.random.RandomState(1).randn(10, 3, 16) * (3 * 0.25)
    assert np.array_equal(c.noise_array(c.GaussianNoise("x"), 3, 16, 0.25), expected)
    expected = np.random.RandomState(4).randn(2, 1, 8) * 0.5
    assert np.array_equal(c.noise_array(c.GaussianNoise("x", 0.5, samples=2, seed=4), 1, 8), expected)
    expected = np.random.RandomState(1).uniform(-1, 1, (10, 2, 8)) * 3
    assert np.array_equal(c.noise_array(c.GaussianNoise("x", "u3"), 2, 8), expected)
    assert not c.noise_array(c.GaussianNoise("x", "s0"), 2, 8, 1.0).any()


def test_noise_leaves_numpys_global_state():
    np.random.seed(0)
    expected = np.random.rand()
    np.random.seed(0)
    c.noise_array(c.GaussianNoise("x"), 3, 16, 0.25)
    assert np.random.rand() == expected


@pytest.mark.parametrize("std", [None, math.nan, -1.0])
def test_relative_noise_needs_a_scale(std):
    with pytest.raises(InputError, match="relative"):
        c.noise_array(c.GaussianNoise("x", "s3"), 2, 8, std)


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("positions", [range(1, 3), [1, 2], [-1, 0]])
def test_corrupt_adds_or_overwrites_at_the_positions_only(dtype, replace, positions):
    x = mx.random.normal((3, 5, 4)).astype(dtype)
    before = np.array(x.astype(mx.float32))
    noise = np.random.RandomState(0).randn(3, 2, 4)
    y = c.corrupt(x, noise, positions, replace)
    expected = before.astype(np.float64)
    index = [p % 5 for p in positions]
    expected[:, index] = noise if replace else expected[:, index] + noise
    expected = np.array(mx.array(expected.astype(np.float32)).astype(dtype).astype(mx.float32))
    got = np.array(y.astype(mx.float32))
    assert y.dtype == dtype
    assert np.allclose(got, expected, rtol={mx.float32: 1e-6, mx.float16: 1e-3}.get(dtype, 1e-2), atol=1e-6)
    others = [t for t in range(5) if t not in index]
    assert np.array_equal(got[:, others], before[:, others])
    y += 1
    assert np.array_equal(np.array(x.astype(mx.float32)), before)


def test_zero_noise_changes_nothing():
    x = mx.random.normal((2, 4, 8)).astype(mx.bfloat16)
    assert mx.array_equal(c.corrupt(x, np.zeros((2, 1, 8)), range(1, 2)), x)


@pytest.mark.parametrize("shape", [(1, 2, 4), (3, 1, 4), (3, 2, 1), (3, 2)])
def test_noise_of_another_shape_is_refused(shape):
    with pytest.raises(EditError, match="does not fit"):
        c.corrupt(mx.zeros((3, 5, 4)), np.zeros(shape), range(1, 3))


def test_noise_outside_the_prompt_is_refused():
    with pytest.raises(PositionError):
        c.corrupt(mx.zeros((3, 5, 4)), np.zeros((3, 2, 4)), range(4, 6))
    with pytest.raises(EditError):
        c.corrupt(mx.zeros((5, 4)), np.zeros((3, 2, 4)), range(1, 3))


def test_corruption_is_differentiable():
    noise = np.ones((1, 1, 2))
    gradient = mx.grad(lambda x: c.corrupt(x, noise, range(1, 2)).sum())(mx.zeros((1, 3, 2)))
    assert mx.array_equal(gradient, mx.ones((1, 3, 2)))
    gradient = mx.grad(lambda x: c.corrupt(x, noise, range(1, 2), True).sum())(mx.zeros((1, 3, 2)))
    assert gradient.tolist() == [[[1, 1], [0, 0], [1, 1]]]
