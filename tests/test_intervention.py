"""Interventions know the positions that they act at: in a whole prompt, and in a sequence piece by piece."""

from __future__ import annotations

from itertools import pairwise

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace import errors
from mlxtrace import interventions as iv
from mlxtrace.intervention import Window, absolute, positioned

T, N, D = 6, 4, 3
PIECES = [(0, T), *((p, 1) for p in range(T, T + N))]


def sequence(n=T + N):
    return mx.arange(1.0, n * D + 1).reshape(1, n, D)


def in_pieces(fn, first=None):
    first = {} if first is None else first
    x = sequence()
    return mx.concatenate(
        [Window(a, n, T, first, "a site", True).run(fn, x[:, a : a + n]) for a, n in PIECES], axis=1
    )


ROWS = mx.arange(100.0, 100 + 3 * D).reshape(3, D)


@pytest.mark.parametrize(
    ("fn", "whole"),
    [
        (iv.zero_at(2), iv.zero_at(2)),
        (iv.zero_at(-1), iv.zero_at(T - 1)),  # of the prompt
        (iv.zero_at([T + 1, 0]), iv.zero_at([T + 1, 0])),
        (iv.zero_at(slice(-2, None)), iv.zero_at(slice(T - 2, None))),
        (iv.zero_at(slice(1, -1)), iv.zero_at(slice(1, T - 1))),
        (iv.zero_at(slice(None, None, 3)), iv.zero_at(slice(None, None, 3))),
        (iv.replace_at(ROWS, [T + 2, 1, -1]), iv.replace_at(ROWS, [T + 2, 1, T - 1])),
        (iv.replace_at(ROWS, range(T - 1, T + 2)), iv.replace_at(ROWS, range(T - 1, T + 2))),
        (iv.replace_at(sequence(T) * 7, [0, 3]), iv.replace_at((sequence() * 7), [0, 3])),  # rows of a whole prompt
        (iv.add_vector(mx.array([1.0, 2.0, 3.0]), [T, 2]), iv.add_vector(mx.array([1.0, 2.0, 3.0]), [T, 2])),
        (iv.add_vector(2.0), iv.add_vector(2.0)),
        (iv.compose(iv.scale(2), iv.zero_at([1, T])), iv.compose(iv.scale(2), iv.zero_at([1, T]))),
        (lambda x: iv.zero_at([0, T])(x) + 1, lambda x: iv.zero_at([0, T])(x) + 1),
    ],
)  # fmt: skip
def test_pieces_of_a_sequence_are_edited_as_the_whole(fn, whole):
    assert np.array_equal(in_pieces(fn), whole(sequence()))


def test_what_acted_where_is_noted():
    late, early, never = iv.zero_at([T + 1, T + 2]), iv.zero_at(-2), iv.zero_at(T + N + 5)
    first: dict = {}
    in_pieces(iv.compose(late, early, never, iv.scale(2)), first)
    assert first == {late: T + 1, early: T - 2, never: None}


def test_the_positions_of_what_is_composed():
    a, b = iv.zero_at(3), iv.add_vector(1.0, [1, 2])
    assert list(positioned(iv.compose(a, iv.scale(2), iv.compose(b)))) == [a, b]
    assert not list(positioned(iv.scale(2))) and not list(positioned(lambda x: x))
    assert a.positions == (3,) and b.positions == ([1, 2],) and iv.scale(2).positions == ()


@pytest.mark.parametrize(("shape", "counts"), [((1, 5, D), True), ((T, D), True), ((1, T, D), False)])
def test_arrays_whose_tokens_cannot_be_told_are_refused(shape, counts):
    window = Window(0, T, T, {}, "layers.0.gate", counts)
    with pytest.raises(errors.EditError, match=r"layers\.0\.gate"):
        window.run(iv.zero_at(0), mx.zeros(shape))
    assert window.run(iv.zero_out(), mx.ones(shape)).sum() == 0
    assert iv.zero_at(0)(mx.ones((1, 2, D)))[0, 0].sum() == 0  # outside it means what it always does


@pytest.mark.parametrize("positions", [-T - 1, [0, -T - 1], slice(-T - 1, None)])
def test_positions_before_the_prompt(positions):
    with pytest.raises(errors.PositionError, match="before the prompt"):
        absolute(positions, T, T + N)


@pytest.mark.parametrize(
    "positions", ["last", 1.5, [True], [0, -T], None, slice(None, None, -1), slice(0.5, 2)]
)
def test_positions_that_are_none(positions):
    with pytest.raises(errors.InputError):
        absolute(positions, T, T + N)


def test_positions_as_numpy_and_mlx_give_them():
    assert absolute(np.array([1, -1]), T, T) == [1, T - 1] == absolute(mx.array([1, -1]), T, T)
    assert absolute(np.int64(-1), T, T) == [T - 1] and absolute(range(2, 4), T, T) == [2, 3]


def test_noise_differs_from_new_token_to_new_token_and_is_the_same_again():
    blur, whole = iv.noise(1.0, seed=3), mx.zeros((1, T, D))

    def drawn(start, length):
        window = Window(start, length, T, {}, "layers.0", True)
        return np.array(window.run(blur, mx.zeros((1, length, D))))

    new = [drawn(p, 1) for p in range(T, T + N)]
    assert all(np.abs(a - b).max() > 0.1 for a, b in pairwise(new))
    assert all(np.array_equal(a, drawn(p, 1)) for a, p in zip(new, range(T, T + N), strict=True))
    assert np.array_equal(drawn(0, T), np.array(blur(whole)))  # a prompt's is what a trace adds
