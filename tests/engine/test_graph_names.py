"""Senders, receivers and chains by every name that they have, and what is no name."""

import pytest
from models import make

from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.engine.graph import Graph, Node, Read
from mlxtrace.engine.graph_names import reaches, receivers, senders
from mlxtrace.errors import InputError, PositionError


@pytest.fixture(scope="module")
def graph():
    return Graph(ModuleResolver(make("llama")))  # 3 layers, 4 heads, 2 key-value heads


HEADS = [f"a{i}.h{h}" for i in range(3) for h in range(4)]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("embed", ["embed"]),
        ("input", ["embed"]),
        ("head", HEADS),
        ("mlp", ["m0", "m1", "m2"]),
        ("a1", HEADS[4:8]),
        ("layers.1.head", HEADS[4:8]),
        ("layers.1.self_attn", HEADS[4:8]),
        ("layers.1.head.2", ["a1.h2"]),
        ((1, 2), ["a1.h2"]),
        ("1.2", ["a1.h2"]),
        ([(1, 2), "m0"], ["a1.h2", "m0"]),
        ("r3", ["r3"]),
        ("layers.2.resid_pre", ["r2"]),
        ("layers.2.resid_post", ["r3"]),
        (Node("mlp", 1), ["m1"]),
        ("a0.h1 + m1", ["a0.h1 + m1"]),
        ([["a0.h1", "a2.h1.k"]], ["a0.h1 > a2.h1.k"]),
        (None, ["embed", *HEADS[:4], "m0", *HEADS[4:8], "m1", *HEADS[8:], "m2"]),
    ],
)
def test_senders(graph, given, found):
    assert [s.name for s in senders(graph, given)] == found


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("k", [f"a{i}.h{h}.k" for i in range(3) for h in range(2)]),
        ("a1.h3.q", ["a1.h3.q"]),
        ("a1.h3<q>", ["a1.h3.q"]),
        ("a1.k", ["a1.h0.k", "a1.h1.k"]),
        ("layers.1.v.1", ["a1.h1.v"]),
        ("layers.1.mlp", ["m1"]),
        ("a1", HEADS[4:8]),
        ("head", HEADS),
        ([["a1.h1.k", "m2"], "logits"], ["a1.h1.k + m2", "logits"]),
        ([("a1.h1.k", "m2")], ["a1.h1.k + m2"]),
        ("a1.h1.k + m2", ["a1.h1.k + m2"]),
        (Read("v", 2, 1), ["a2.h1.v"]),
        ((1, 2), ["a1.h2"]),
    ],
)
def test_receivers(graph, given, found):
    assert [r.name for r in receivers(graph, given)] == found


def test_a_head_as_a_receiver_is_its_queries_and_the_keys_and_values_of_its_group(graph):
    (head,) = receivers(graph, "a1.h3")
    assert [r.name for r in head.reads] == ["a1.h3.q", "a1.h1.k", "a1.h1.v"]
    assert head.outputs == (Node("head", 1, 3),)
    assert receivers(graph, "a1.h1.k")[0].outputs == (Node("head", 1, 2), Node("head", 1, 3))
    assert len(receivers(graph, None)) == len(graph.receivers)


def test_what_reaches_what(graph):
    def reach(sender, receiver):
        (s,), (r,) = senders(graph, [sender]), receivers(graph, [receiver])
        return reaches(graph, s.written, r.reads)

    assert reach("a1.h0", "m1") and reach("r1", "a1.h0.q") and reach("r3", "logits")
    assert not reach("m1", "m1") and not reach("a1.h0", "a1.h1.k") and not reach("r2", "a1.h0.q")
    assert not reach("a0.h0 + m2", "m2") and not reach("m0", ["m0", "logits"])
    assert reach(["embed", "a1.h1.k"], "m1") and not reach(["embed", "a1.h1.k"], "a1.h0.v")


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ("a0.h9", PositionError, "a0.h9 does not exist: it has heads 0 to 3"),
        ("m7", PositionError, "layer 7 does not exist: this model has layers 0 to 2"),
        ("atn", InputError, "sender 'atn' is unknown; closest"),
        ("a0.h1.k", InputError, "is a read, and no sender"),
        (3, InputError, "senders are named by strings"),
        ([3], InputError, "sender 3 is unknown"),
        ([True], InputError, "sender True is unknown"),
        ([], InputError, "senders is empty"),
        ([[]], InputError, "an empty list is no chain"),
        ([["head", "m2"]], InputError, "a chain begins with one sender"),
        ([["m1", "a1.h0.k"]], InputError, r"a1.h0.k does not read what m1 writes"),
        ([["embed", "m1", "m0"]], InputError, r"m0 does not read what m1 writes"),
        ([["embed", "logits"]], InputError, "the logits are the last of all reads"),
        (["m1", "m1"], InputError, "name m1 more than once"),
        ({"m1": 1}, InputError, "senders are named by strings"),
        ("blocks.0.hook_mlp_out", InputError, "is unknown"),
    ],
)
def test_what_is_no_sender(graph, given, error, said):
    with pytest.raises(error, match=said):
        senders(graph, given)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ("a0.h3.k", PositionError, "a0.h3.k does not exist: it has heads 0 to 1"),
        ("a0.h4", PositionError, "a0.h4 does not exist"),
        ("r2", InputError, "is a sum, and nothing that reads it"),
        ("embed", InputError, "receiver 'embed' is unknown"),
        ("logit", InputError, "closest: logits"),
        ([[]], InputError, "an empty list is no receiver"),
        ([7], InputError, "receiver 7 is unknown"),
        (Read("k", 0, 7), PositionError, "does not exist in this model"),
    ],
)
def test_what_is_no_receiver(graph, given, error, said):
    with pytest.raises(error, match=said):
        receivers(graph, given)
