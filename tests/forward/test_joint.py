"""Parts of several arrays as one: read in order, written back to each, let go of when the passes are over."""

from __future__ import annotations

import gc
import weakref

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace import errors
from mlxtrace.forward.joint import Activation, JointState, Part, SiteState, is_listed, joined


def array(shape, start=0.0, **state):
    values = mx.arange(start, start + float(np.prod(shape))).reshape(shape)
    return Activation.of(values, SiteState("mlp", **state))


@pytest.fixture
def two():
    """Prompts 0 and 2 in one array of 3 tokens, prompt 1 in one of 4; the last token of each."""
    a, b = array((2, 3, 2)), array((1, 4, 2), 100)
    return a, b, [Part([0, 2], a, [0, 1], (-1,)), Part([1], b, [0], (-1,))]


def test_joined_is_in_the_order_of_the_places(two):
    _, _, parts = two
    assert joined(parts).tolist() == [[4, 5], [106, 107], [10, 11]]
    assert joined([parts[1]._replace(places=[0])]).tolist() == [[106, 107]]


def test_every_way_to_edit_it_is_written_back(two):
    a, b, parts = two
    x = joined(parts)
    x *= 2
    x[1] = 0.0
    x[:, 1][2] = -1.0
    row = x[0]
    row += 1
    x.reshape(-1)[4] = -2.0
    assert x.tolist() == [[9, 11], [0, 0], [-2, -1]]
    assert a[:, -1].tolist() == [[9, 11], [-2, -1]] and b[:, -1].tolist() == [[0, 0]]
    assert a[:, :-1].tolist() == [[[0, 1], [2, 3]], [[6, 7], [8, 9]]]
    assert a.state.edited and b.state.edited


def test_only_what_is_taken_of_a_row_is_written():
    a = array((3, 3, 2))
    Part([0, 1], a, [2, 0], (1,)).put(mx.array([[1.0, 1.0], [2.0, 2.0]]))
    Part([0, 1], a, [1, 2], (np.array([0, 2]), 1), paired=True).put(-1.0)
    assert a.tolist() == [
        [[0, 1], [2, 2], [4, 5]],
        [[6, -1], [8, 9], [10, 11]],
        [[12, 13], [1, 1], [16, -1]],
    ]


def test_its_state_is_that_of_all():
    states = [SiteState("mlp"), SiteState("mlp")]
    joint = JointState(states)
    assert joint.open and not joint.free and joint.gone_to == "" and joint.name == "mlp"
    states[1].writes += 2
    states[0].writes += 1
    joint.writes += 5  # counted where it is written
    assert joint.writes == 3
    states[1].open, states[1].gone_to = False, "norm"
    assert not joint.open and joint.gone_to == "norm"
    states[0].close()
    assert not joint.free
    states[1].close()
    assert joint.free


def test_an_edit_after_one_went_by_changes_none(two):
    a, b, parts = two
    x = joined(parts)
    b.state.open, b.state.gone_to = False, "norm"
    with pytest.raises(errors.OrderError, match="norm"):
        x *= 2
    assert a[:, -1].tolist() == [[4, 5], [10, 11]]


def test_an_edit_of_values_that_are_not_there_any_more_changes_none(two):
    a, b, parts = two
    x, y = joined(parts), joined(parts)
    x += 0.0  # leaves what was there
    y += 0.0
    b[0, -1] = 5.0
    with pytest.raises(errors.EditError, match="Take the part again"):
        x[0] = 1.0
    assert a[:, -1].tolist() == [[4, 5], [10, 11]]


def test_after_the_passes_it_is_an_array_of_its_own(two):
    a, b, parts = two
    x = joined(parts)
    for state in (a.state, b.state):
        state.close()
    x *= 2
    assert b[0, -1].tolist() == [106, 107]
    assert type(joined(parts)) is mx.array


def test_it_lets_go_of_the_arrays(two):
    gc.collect()
    gc.disable()
    try:
        a, b = array((2, 3, 2)), array((1, 4, 2))
        x = joined([Part([0, 2], a, [0, 1], (-1,)), Part([1], b, [0], (-1,))])
        view = x[0]
        held = [weakref.ref(a), weakref.ref(b)]
        a.state.close()
        b.state.close()
        del a, b
        assert [ref() for ref in held] == [None, None] and x.shape == (3, 2) and view.shape == (2,)
    finally:
        gc.enable()


def test_lists_are_told_from_numbers():
    assert all(map(is_listed, ([1], range(2), np.array([1]), mx.array([1]))))
    assert not any(map(is_listed, (1, np.int64(1), mx.array(1), slice(None), None)))
