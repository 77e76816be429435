"""Single names of nodes and reads; lists, sums and chains are in test_graph_names."""

import pytest
from models import make

from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.engine.graph import Graph, Node, Read
from mlxtrace.engine.node_names import is_pair, nodes, reads
from mlxtrace.errors import InputError


@pytest.fixture(scope="module")
def graph():
    return Graph(ModuleResolver(make("llama")))


def test_every_own_name_is_read_back(graph):
    for node in graph.senders:
        assert nodes(graph, node.name) == [node] == nodes(graph, node)
    for read in graph.receivers:
        assert reads(graph, read.name) == [(read.name, (read,))] == reads(graph, read)
    assert nodes(graph, "r3") == [Node("resid", 3)]


def test_a_head_is_its_three_reads(graph):
    assert reads(graph, "a1.h2") == [("a1.h2", (Read("q", 1, 2), Read("k", 1, 1), Read("v", 1, 1)))]
    assert len(reads(graph, "head")) == 12


def test_pairs_are_of_two_whole_numbers():
    assert is_pair((1, 2)) and not any(map(is_pair, [(1,), (1, "2"), (True, 1), [1, 2], "12"]))


@pytest.mark.parametrize("name", ["m1.h2", "r1.q", "a1.h2.z", "A1.h2", "layers.1.pattern", "a1h2", ""])
def test_what_is_no_name(graph, name):
    with pytest.raises(InputError, match="is unknown"):
        nodes(graph, name)
