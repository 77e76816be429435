"""The ends of edges: names, and which come after which."""

from __future__ import annotations

import pytest

from mlxtrace import compiled, errors
from mlxtrace.compiled.reads import Read, Sender, all_edges

RULES = compiled.induction().rules


def test_names_are_read():
    assert Read.named("a1.h3.k", RULES) == Read("k", 1, 3) and Read.named("m0", RULES) == Read("m", 0)
    assert Read.named("logits", RULES) == Read("logits", 2)
    assert Sender.named("a0.h2", RULES) == Sender("a", 0, 2) and Sender.named("r1", RULES) == Sender("r", 1)
    assert Sender.named("embed", RULES) == Sender("embed", 0)
    for wrong in ("a2.h0.q", "a0.h4.q", "m2", "a0.h0", "head", "", "a0.h0.qq", "m-1"):
        with pytest.raises(errors.InputError, match="is no end of an edge"):
            Read.named(wrong, RULES)


def test_an_edge_goes_forward():
    found = all_edges(RULES)
    assert len(found) == len(set(found)) == 1 * 12 + 5 + 6 * 12 + 10 + 11
    assert ("a0.h0", "m0") in found and ("m0", "a1.h0.q") in found and ("a1.h1", "logits") in found
    assert not {("a0.h0", "a0.h1.q"), ("m0", "m0"), ("a1.h0", "a1.h0.v"), ("m1", "a1.h0.q")} & set(found)
    assert Sender.named("r1", RULES).is_before(Read.named("a1.h0.q", RULES))
    assert not Sender.named("r1", RULES).is_before(Read.named("m0", RULES))
