"""Rules: readings, the heads that programs share, and places."""

from __future__ import annotations

import numpy as np

from mlxtrace import compiled
from mlxtrace.compiled.rule_pass import best, keys, queries
from mlxtrace.compiled.rules import HEADS, ONE, Neuron, Rules, latest, placed, previous, read


def looks_at(head, streams):
    shown = [keys(head, stream) for stream in streams]
    return [best(queries(head, stream), shown[: p + 1]) for p, stream in enumerate(streams)]


def test_a_reading_is_a_weighted_sum():
    assert read({"a": 2, "b": -1, ONE: 5}, {"a": 3, "c": 9}) == 11
    assert read({}, {"a": 1}) == 0


def test_the_previous_token_head_looks_one_back_at_any_length():
    streams = [Rules.position(p) for p in range(32)]
    assert looks_at(previous({}), streams) == [{0: 1}] + [{p - 1: 1} for p in range(1, 32)]


def test_the_latest_head_looks_at_the_last_that_has_it_or_at_itself():
    streams = [{**Rules.position(p), **({"x": 1} if p in (2, 5) else {})} for p in range(8)]
    found = [next(iter(one)) for one in looks_at(latest("", {"x": 1}, {}), streams)]
    assert found == [0, 1, 2, 2, 2, 5, 5, 5]


def test_places_are_drawn():
    neurons = [Neuron(str(i), {}, {}) for i in range(6)]
    layer = placed([previous({})], neurons, np.random.RandomState(0))
    assert len(layer.heads) == 1 and max(layer.heads) < HEADS
    assert [n.role for n in layer.neurons.values()] == list("012345") and len(set(layer.neurons)) == 6


def test_all_features_are_written_by_something():
    rules = compiled.lookup().rules
    assert {"pos", "pos squared", "somebody", "asked:first"} <= set(rules.features)
    reads = {
        name
        for layer in rules.layers
        for head in layer.heads.values()
        for match in head.matches
        for name in (*match.query, *match.key)
    }
    assert reads - {ONE} <= set(rules.features)
