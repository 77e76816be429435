from __future__ import annotations

import numpy as np
import pytest
from edges_made_up import made_up

from mlxtrace.errors import InputError, LoadError
from mlxtrace.results.edges_result import Edges

NAMED = {("a0.h1", "m1"): 0.5, ("embed", "a1.h0.k"): -2.0, ("m1", "logits"): 1.0}


def test_scores_are_found_by_name_and_ranked_by_size():
    edges = made_up(NAMED)
    assert edges["a0.h1", "m1"] == edges["a0.h1->m1"] == 0.5 and len(edges) == edges.n == edges.upstream.sum()
    assert [(r["sender"], r["receiver"], r["score"]) for r in edges.top(2)] == [
        ("embed", "a1.h0.k", -2.0), ("m1", "logits", 1.0),
    ]  # fmt: skip
    rows = edges.to_rows()
    assert len(rows) == edges.n and "low" not in rows[0]
    assert edges.top(1)[0]["share"] == pytest.approx(100 * -2 / 3)  # of clean less corrupted
    assert edges.top(10**6)[0] == edges.top(1)[0] and edges.top(0) == []


def test_a_set_has_means_and_intervals():
    edges = made_up(NAMED, pairs=3)
    assert edges["m1", "logits"] == 2.0  # of 1, 2, 3
    assert edges.interval[edges.senders.index("m1"), -1] == pytest.approx(1.96 / 3**0.5)
    top = edges.top(1)[0]
    assert top["low"] < top["score"] < top["high"] and "3 pairs" in repr(edges) and " ± " in repr(edges)


def test_what_is_approximate_says_so_wherever_it_shows():
    for method in ("eap", "eap-ig"):
        edges = made_up(NAMED, method=method, steps=5 if method == "eap-ig" else 0)
        assert edges.approximate
        for said in (
            repr(edges),
            edges._repr_html_(),
            edges.plot()._suptitle.get_text(),
            repr(edges.circuit(3)),
        ):
            assert "pproximate" in said, said
    exact = made_up(NAMED)
    assert not exact.approximate and "pproximate" not in repr(exact) + repr(exact.circuit(2))


def test_html_is_safe():
    assert "<script>" not in made_up(NAMED, notes=["<script>"])._repr_html_()


def test_saved_and_loaded_edges_are_the_same(tmp_path):
    edges = made_up(pairs=2)
    again = Edges.load(edges.save(tmp_path / "edges.npz"))
    assert np.array_equal(again.per_pair, edges.per_pair) and repr(again) == repr(edges)
    assert again.circuit(9).edges == edges.circuit(9).edges
    made = Edges(**{**edges._fields(), "clean": np.ones(5)})
    with pytest.raises(LoadError, match="clean"):
        Edges.load(made.save(tmp_path / "broken.npz"))


def test_a_circuit_is_of_the_edges_asked_for():
    edges = made_up(NAMED)
    circuit = edges.circuit(1.0, by="threshold")
    assert circuit.asked == 2 and circuit.edges == []  # both lead nowhere
    raw = edges.circuit(1.0, by="threshold", prune=False)
    assert raw.edges == [("embed", "a1.h0.k"), ("m1", "logits")]
    with pytest.raises(InputError, match="whole number"):
        edges.circuit(10**6)
