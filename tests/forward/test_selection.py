"""Indices of several prompts: what each takes of which group, and in which order."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace import errors
from mlxtrace.forward.joint import SiteState
from mlxtrace.forward.selection import Activation, Group, select

GROUPS = [
    Group(places, Activation.of(mx.zeros((len(places), n, 4)), SiteState("mlp")), n)
    for n, places in {5: (0, 2, 4), 7: (1, 3)}.items()
]


def taken(index, edit=False):
    """By length: the places among what is taken, and the rows of the array."""
    parts, alone = select("mlp", GROUPS, index, edit)
    return {n: (list(part.places), part.rows) for n, part in parts.items()}, alone


@pytest.mark.parametrize(
    ("index", "right", "alone"),
    [
        (slice(None), {5: ([0, 2, 4], [0, 1, 2]), 7: ([1, 3], [0, 1])}, False),
        ((slice(None), -1), {5: ([0, 2, 4], [0, 1, 2]), 7: ([1, 3], [0, 1])}, False),
        (slice(None, None, -1), {5: ([0, 2, 4], [2, 1, 0]), 7: ([1, 3], [1, 0])}, False),
        ([3, 4, 0], {5: ([1, 2], [2, 0]), 7: ([0], [1])}, False),
        ([2, 0], {5: ([0, 1], [1, 0])}, False),
        (3, {7: ([0], [1])}, True),
        ((-1, 2), {5: ([0], [2])}, True),
        (np.array([True, False, False, True, False]), {5: ([0], [0]), 7: ([1], [1])}, False),
    ],
    ids=str,
)
def test_rows_of_each_group_in_the_order_asked_for(index, right, alone):
    assert taken(index) == (right, alone)


def test_lists_beside_a_list_of_prompts_are_shared_out():
    parts, _ = select("mlp", GROUPS, ([3, 4, 0], [6, 1, 2], slice(None)))
    assert {n: part.rest[0].tolist() for n, part in parts.items()} == {7: [6], 5: [1, 2]}
    assert all(part.paired for part in parts.values())
    parts, _ = select("mlp", GROUPS, (slice(None), [3, 4]))
    assert [part.rest[0].tolist() for part in parts.values()] == [[3, 4], [3, 4]]


def test_errors_say_which_prompts_are_too_short():
    with pytest.raises(errors.PositionError, match=r"index 6 .* mlp of prompts 0, 2, 4 of 5 tokens"):
        taken((slice(None), 6))
    assert taken((slice(1, 4, 2), 6)) == ({7: ([0, 1], [0, 1])}, False)
    with pytest.raises(errors.PositionError, match="a prompt twice"):
        taken([0, 0], edit=True)
    with pytest.raises(errors.PositionError, match="none of the 5 prompts"):
        taken(slice(5, None))


def test_a_group_says_its_prompts():
    assert str(GROUPS[0]) == "prompts 0, 2, 4 of 5 tokens"
    long = Group(tuple(range(9)), Activation.of(mx.zeros((9, 2)), SiteState("x")), 2)
    assert str(long) == "prompts 0, 1, 2, 3, 4, 5, ... of 2 tokens"
    assert str(long._replace(prompts=(3,))) == "prompt 3 of 2 tokens"
