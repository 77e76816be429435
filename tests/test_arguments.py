"""Numbers as users give them: what counts as a whole number, a position, a layer, and what each error says."""

from __future__ import annotations

from fractions import Fraction

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace.arguments import (
    as_integer,
    ends_of,
    indices_in,
    label_of,
    positions_in,
    runs_of,
    text_at,
    whole_number,
)
from mlxtrace.errors import InputError, PositionError


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3), mx.array(3)])
def test_integers_of_every_library_are_ints(value):
    assert as_integer(value) == 3 and type(as_integer(value)) is int


@pytest.mark.parametrize(
    "value", [True, np.True_, mx.array(True), 3.0, np.float32(3), "3", None, [3], np.array([3]), Fraction(3)]
)
def test_what_only_looks_like_an_integer_is_none(value):
    assert as_integer(value) is None


def test_whole_numbers_have_a_least():
    assert whole_number("window", np.int32(2)) == 2
    assert whole_number("seed", 0, least=0) == 0
    assert whole_number("seed", 7, 0, 7) == 7
    with pytest.raises(InputError, match="seed is a whole number from 0 to 7, not 8"):
        whole_number("seed", 8, 0, 7)
    for value in (0, -1, 2.0, True, "2", None):
        with pytest.raises(InputError, match=r"window is a whole number of 1 or more, not"):
            whole_number("window", value)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (2, [2]),
        (-1, [4]),
        ([0, -1], [0, 4]),
        (range(1, 3), [1, 2]),
        (slice(None), [0, 1, 2, 3, 4]),
        (slice(-2, None), [3, 4]),
        (slice(4, None, -2), [4, 2, 0]),
        ((3, 1), [3, 1]),
        (np.array([1, 2]), [1, 2]),
        (mx.array([1, 2]), [1, 2]),
        (np.int64(3), [3]),
    ],
)
def test_positions_in_every_form(given, found):
    assert positions_in(given, 5) == found


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (5, PositionError, r"Position 5 is outside the prompt: its 5 positions are -5\.\.4"),
        (-6, PositionError, "-6"),
        ([0, 7], PositionError, "7"),
        (slice(0, 9), PositionError, "reaches past the prompt"),
        ([], PositionError, "selects no position"),
        (slice(3, 3), PositionError, "selects no position"),
        ([1, 1], InputError, "same token twice"),
        ([1, -4], InputError, "same token twice"),
        (1.0, InputError, "Positions are"),
        ("12", InputError, "Positions are"),
        ("user[0]", InputError, "regions\\['user"),
        (b"\x01", InputError, "Positions are"),
        (None, InputError, "Positions are"),
        ([True], InputError, "Positions are"),
        (slice(0, 4, 0), InputError, "no step of 0"),
        (slice(0.0, 4), InputError, "whole numbers"),
    ],
)
def test_positions_that_cannot_be_meant(given, error, words):
    with pytest.raises(error, match=words):
        positions_in(given, 5)


def test_layers_and_heads():
    assert indices_in("layer", 1, 4) == [1]
    assert indices_in("layer", -1, 4) == [3]
    assert indices_in("head", [3, 0], 4) == [3, 0]  # in the order given
    assert indices_in("layer", range(4), 4) == [0, 1, 2, 3]
    assert indices_in("layer", (i for i in (2, 3)), 4) == [2, 3]
    assert indices_in("layer", np.arange(2), 4) == [0, 1]
    for given in (4, -5, [0, 4]):
        with pytest.raises(PositionError, match=r"layer -?\d does not exist: this model has layers 0 to 3"):
            indices_in("layer", given, 4)
    for given in ([], [1, 1], [0, -4]):
        with pytest.raises(InputError, match="name at least one head, and each once"):
            indices_in("head", given, 4)
    for given in ("1", 1.0, None, [None], {1: 2}, [True]):
        with pytest.raises(InputError, match="layers are whole numbers"):
            indices_in("layer", given, 4)


def test_runs_of_positions():
    pairs = [(i, i) for i in range(8)]
    assert runs_of(pairs, 3, 2) == [[0, 1, 2], [3, 4], [5, 6], [7]]
    assert runs_of(pairs, 0, 3) == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert runs_of([(2, 1), (5, 4), (6, 5), (7, 7)], 0, 4) == [
        [2],
        [5, 6],
        [7],
    ]  # either prompt has others between


def test_what_runs_are_called():
    assert [label_of([7]), label_of([7, 8, 9])] == [7, "7-9"]
    assert [ends_of(7), ends_of("7-9"), ends_of("7")] == [(7, 7), (7, 9), (7, 7)]
    assert [text_at(1, "abc".__getitem__), text_at("0-2", "abc".__getitem__)] == ["b", "a … c"]
