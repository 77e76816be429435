"""Who is upstream of whom, and which models have no graph."""

import numpy as np
import pytest
from models import make

from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.engine.graph import Graph, Node, Read
from mlxtrace.errors import UnsupportedError


@pytest.fixture(scope="module")
def llama():
    return Graph(ModuleResolver(make("llama")))


def test_senders_and_receivers_stand_in_the_order_of_the_stream(llama):
    assert [s.name for s in llama.senders[:7]] == ["embed", "a0.h0", "a0.h1", "a0.h2", "a0.h3", "m0", "a1.h0"]
    of_first = [r.name for r in llama.receivers[:9]]
    assert of_first == [*(f"a0.h{h}.q" for h in range(4)), "a0.h0.k", "a0.h1.k", "a0.h0.v", "a0.h1.v", "m0"]
    assert llama.receivers[-1].name == "logits" and llama.upstream.shape == (16, 28)
    assert Node("resid", 3).name == "r3"


@pytest.mark.parametrize(("name", "parallel"), [("llama", False), ("gpt_neox", True)])
def test_a_receiver_reads_what_was_written_before(name, parallel):
    graph = Graph(ModuleResolver(make(name)))
    assert set(graph.parallel) == {parallel}
    for i, sender in enumerate(graph.senders):
        for j, read in enumerate(graph.receivers):
            same = (
                sender.layer == read.layer and read.kind == "mlp" and sender.kind == "head" and not parallel
            )
            before = sender.kind == "embed" or sender.layer < read.layer or same
            assert graph.upstream[i, j] == before, (sender.name, read.name)


def test_keys_and_values_are_shared_by_groups_of_heads(llama):
    assert [llama.group(1, h) for h in range(4)] == [0, 0, 1, 1]
    assert llama.attending(Read("k", 1, 1)) == (2, 3) and llama.attending(Read("q", 1, 1)) == (1,)


@pytest.mark.parametrize("name", ["mamba", "gemma2", "jamba"])
def test_a_model_without_a_graph_says_why(name):
    with pytest.raises(UnsupportedError, match=r"layer 0: its mixer makes no call of mlx's attention"):
        Graph(ModuleResolver(make(name)))


def test_every_sender_has_a_receiver_but_none_reads_itself(llama):
    assert llama.upstream.any(1).all() and llama.upstream[:, -1].all()
    assert np.array_equal(np.argmin(llama.upstream, axis=0)[:8], [1] * 8)
