"""Which tokens differ in a cell, by hand; and arrays wherever they are kept."""

from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from models import make

from mlxtrace import InterpretableModel
from mlxtrace.engine.differences import ChangedTokens, map_arrays, side_axes
from mlxtrace.engine.runs import Patch


@pytest.fixture(scope="module")
def resolver():
    return InterpretableModel(make("llama")).resolver  # three layers


def changed(resolver, component, layer, *at, start=0, length=6):
    return ChangedTokens(resolver, [[Patch(resolver.site(component, layer), at, at)]], start, length)


def rows(mask):
    return ["".join("x" if value else "." for value in layer[0]) for layer in mask]


@pytest.mark.parametrize(
    ("component", "before", "after"),
    [
        ("resid_pre", ["......", "..x...", "..xxxx"], ["......", "..xxxx", "..xxxx"]),
        ("k", ["......", "..x...", "..xxxx"], ["......", "..xxxx", "..xxxx"]),
        ("attn", ["......", "......", "..x..."], ["......", "..x...", "..xxxx"]),
        ("mlp", ["......", "......", "..x..."], ["......", "......", "..xxxx"]),
        ("resid_post", ["......", "......", "..x..."], ["......", "......", "..xxxx"]),
    ],
)
def test_mixing_carries_a_difference_to_later_tokens(resolver, component, before, after):
    found = changed(resolver, component, 1, 2)
    assert rows(found.before) == before and rows(found.after) == after


def test_positions_count_from_the_pass_start(resolver):
    found = changed(resolver, "attn", 2, 3, 5, start=2)
    assert rows(found.after) == ["....", "....", ".x.x"]
    assert found.last_only(2) and not found.last_only(1)


def test_arrays_are_found_in_nests():
    inner = SimpleNamespace(keys=mx.ones(2), module=nn.Linear(2, 2), other="text")
    shared = [mx.ones(1), {"a": mx.ones(3)}]
    value = (mx.ones(4), shared, inner, None, 7)
    where = {}

    def edit(x, place):
        where[place] = x.shape
        return x + 1

    found = map_arrays(value, edit)
    assert where == {(0,): (4,), (1, 0): (1,), (1, 1, "a"): (3,), (2, "keys"): (2,)}
    assert found[0].tolist() == [2] * 4 and value[0].tolist() == [1] * 4  # a tuple is made anew
    assert found[1] is shared and shared[1]["a"].tolist() == [2] * 3  # what may be shared is changed in place
    assert found[2] is inner and inner.keys.tolist() == [2, 2] and found[3:] == (None, 7)


def test_objects_that_hold_themselves_end():
    loop = SimpleNamespace(x=mx.ones(1))
    loop.own = loop
    map_arrays((loop,), lambda x, place: x)


def test_arrays_beside_the_stream_and_their_batch_axes(resolver):
    assert side_axes(resolver) == {}
    found = side_axes(InterpretableModel(make("gemma4_text")).resolver)
    assert len(found) == 4 and all(set(axes.values()) == {0} for axes in found.values())
    assert found["model.layers.0", 0] == {(0,): 0, ("per_layer_input",): 0}
    assert np.array(list(found)).shape == (4, 2)
