from __future__ import annotations

import numpy as np
import pytest
from edges_made_up import made_up

from mlxtrace.errors import InputError

CHAIN = {("embed", "m0"): 3.0, ("m0", "a1.h2.q"): -2.0, ("a1.h2", "logits"): 1.0, ("m1", "logits"): 0.5}


def test_edges_nodes_and_shares():
    circuit = made_up(CHAIN).circuit(4)
    assert circuit.asked == 4 and circuit.n == len(circuit) == 3 and "1 of the 4" in circuit.notes[0]
    assert circuit.edges == [("embed", "m0"), ("m0", "a1.h2.q"), ("a1.h2", "logits")]
    assert circuit.nodes == ["embed", "m0", "a1.h2", "logits"]
    assert ("embed", "m0") in circuit and "m1->logits" not in circuit
    assert circuit.share == pytest.approx(100 * 3 / circuit.upstream.sum())
    assert circuit.complement.n == circuit.upstream.sum() - 3 and bool(made_up(CHAIN).circuit(0))


def test_by_sign_what_works_against_the_answer_stays_out():
    edges = made_up(CHAIN)
    assert ("m0", "a1.h2.q") not in edges.circuit(2, absolute=False, prune=False)
    noise = made_up(CHAIN, direction="noise")
    assert ("m0", "a1.h2.q") in noise.circuit(1, absolute=False, prune=False)
    turned = made_up(CHAIN, clean=np.array([-4.0]))  # the clean value is the lower one, as with kl
    assert turned.circuit(1).toward == -1 and noise.circuit(1).toward == -1 and edges.circuit(1).toward == 1


def test_two_circuits_are_compared_by_what_they_share():
    edges = made_up()
    one, other = edges.circuit(30, prune=False), edges.circuit(20, prune=False)
    assert one.compare(other) == {"jaccard": 20 / 30, "shared": 20, "only_this": 10, "only_other": 0}
    assert edges.circuit(0).compare(edges.circuit(0))["jaccard"] == 1
    for wrong in (edges, made_up(size=(1, 2, 2)).circuit(3), None):
        with pytest.raises(InputError):
            one.compare(wrong)
    with pytest.raises(InputError, match="has no edge"):
        other.without(one.complement.edges[0])
    assert one.without(*one.edges[:3]).n == 27


def test_sizes_and_draws_are_checked():
    circuit = made_up().circuit(5)
    for sizes in ((0.5, 0.1), (2.0,), (), "all", (0.1, 0.1), None):
        with pytest.raises(InputError, match="shares"):
            circuit.curve(sizes=sizes)
    with pytest.raises(InputError, match="draws"):
        circuit.drawn(3, -1, 0)
    assert circuit.shares((0, 0.5, 1)) == [0.0, 0.5, 1.0]
