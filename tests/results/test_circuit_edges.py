from __future__ import annotations

import numpy as np
import pytest
from edges_made_up import graph

from mlxtrace.errors import InputError
from mlxtrace.results import circuit_edges


def test_a_key_value_head_feeds_its_group():
    senders, receivers, _ = graph(2, 4, 2)
    into = circuit_edges.feeds(senders, receivers)

    def fed(name):
        return [senders[s] for s in np.flatnonzero(into[receivers.index(name)])]

    assert fed("a1.h1.k") == fed("a1.h1.v") == ["a1.h2", "a1.h3"] and fed("a1.h1.q") == ["a1.h1"]
    assert fed("m0") == ["m0"] and fed("logits") == []


def test_the_graph_of_gpt2_small_has_the_edges_that_mib_counts():
    assert graph(12, 12)[2].sum() == 32491


def kept_of(names, senders, receivers):
    kept = np.zeros((len(senders), len(receivers)), bool)
    for sender, receiver in names:
        kept[senders.index(sender), receivers.index(receiver)] = True
    return kept


def names_of(kept, senders, receivers):
    return {(senders[s], receivers[r]) for s, r in np.argwhere(kept)}


def test_what_leads_nowhere_is_pruned_again_and_again():
    senders, receivers, _ = graph(2, 4, 2)
    whole = [
        ("embed", "a0.h1.v"),
        ("a0.h3", "m1"),
        ("m1", "logits"),
        ("embed", "logits"),
    ]  # value head 1: heads 2, 3
    unread = [
        ("embed", "a0.h0.q"),
        ("embed", "a0.h0.k"),
        ("a0.h2", "a1.h0.q"),
    ]  # nothing reads a0.h0, a0.h1, a1.h0
    unfed = [("a1.h2", "logits"), ("m0", "a1.h2.q")]  # m0 has nothing to read, so that a1.h2 has neither
    kept = kept_of([*whole, *unread, *unfed], senders, receivers)
    assert names_of(circuit_edges.pruned(kept, senders, receivers), senders, receivers) == set(whole)
    assert kept.sum() == 9  # what is given stays as it is


def test_greedy_keeps_only_what_reaches_the_logits():
    senders, receivers, upstream = graph(2, 4, 2)
    sizes = np.zeros(upstream.shape)
    for (s, r), size in {
        ("a1.h0", "logits"): 1, ("m0", "a1.h0.q"): 5, ("embed", "m0"): 3, ("embed", "a0.h0.q"): 9, ("m1", "logits"): 2,
    }.items():  # fmt: skip
        sizes[senders.index(s), receivers.index(r)] = size
    found = [
        names_of(circuit_edges.greedy(sizes, upstream, senders, receivers, n), senders, receivers)
        for n in range(1, 5)
    ]
    assert found[0] == {("m1", "logits")} and found[1] - found[0] == {("a1.h0", "logits")}
    assert found[2] - found[1] == {("m0", "a1.h0.q")} and found[3] - found[2] == {("embed", "m0")}
    top = names_of(circuit_edges.strongest(sizes, upstream, 2), senders, receivers)
    assert top == {("embed", "a0.h0.q"), ("m0", "a1.h0.q")}


def test_all_edges_are_in_the_largest_circuit_either_way():
    senders, receivers, upstream = graph(2, 4, 2)
    sizes = np.abs(np.random.RandomState(0).randn(*upstream.shape))
    for by in ("top", "greedy"):
        kept = circuit_edges.chosen(sizes, upstream, senders, receivers, int(upstream.sum()), by)
        assert (kept == upstream).all()
    assert (
        circuit_edges.chosen(sizes, upstream, senders, receivers, 0.5, "threshold")
        == (upstream & (sizes >= 0.5))
    ).all()


def test_random_edges_are_edges():
    _, _, upstream = graph(2, 4, 2)
    drawn = circuit_edges.random_edges(upstream, 11, 5, 0)
    assert (drawn.sum((1, 2)) == 11).all() and not drawn[:, ~upstream].any()
    assert len({row.tobytes() for row in drawn}) == 5


@pytest.mark.parametrize("edge", ["a0.h1->m1", "a0.h1 -> m1", ("a0.h1", "m1"), ["a0.h1", "m1"]])
def test_edges_are_named_as_users_write_them(edge):
    senders, receivers, upstream = graph(2, 4, 2)
    assert circuit_edges.edge_of(edge, senders, receivers, upstream) == (
        senders.index("a0.h1"),
        receivers.index("m1"),
    )
    other = circuit_edges.edge_of("input->a0.h3<q>", senders, receivers, upstream)
    assert other == (0, receivers.index("a0.h3.q"))


def test_what_is_no_edge_or_no_number_of_edges_is_refused():
    senders, receivers, upstream = graph(2, 4, 2)
    wrong = {"a0.h9->m1": "no sender", "embed->m9": "no receiver", "m1->a0.h0.q": "after", "m1": "two names"}
    for edge, said in wrong.items():
        with pytest.raises(InputError, match=said):
            circuit_edges.edge_of(edge, senders, receivers, upstream)
    sizes = np.ones(upstream.shape)
    for n, by, said in (
        (10_000, "top", "whole number"), (-1, "top", "whole number"), (0.1, "top", "share"),
        (True, "top", "whole number"),
        (5, "best", "top"), ("x", "threshold", "least size"), (-0.5, "threshold", "least size"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            circuit_edges.chosen(sizes, upstream, senders, receivers, n, by)
    with pytest.raises(InputError):
        circuit_edges.ranked(sizes, upstream, -1)
