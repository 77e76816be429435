"""Every edge against two models written out in NumPy: exactly, and its estimates against finite differences."""

from __future__ import annotations

import functools

import models
import numpy as np
import pytest
from edges_by_hand import Hand

from mlxtrace import InterpretableModel, prompts
from mlxtrace.errors import InputError, UnsupportedError
from mlxtrace.results.edges_result import Edges

IDS, OTHER = (3, 17, 40, 9, 120, 66), (3, 88, 40, 51, 120, 66)
ANSWERS = {"target": 5, "foil": 77}
SMALL = {"gpt2": {"n_layer": 2}, "llama": {"num_hidden_layers": 2}, "qwen3": {"num_hidden_layers": 2}}


@functools.cache
def model_and_hand(name):
    net = models.make(name, **SMALL[name])
    return InterpretableModel(net), Hand(net)


def metric(logits):
    return logits[ANSWERS["target"]] - logits[ANSWERS["foil"]]


def some_edges(edges, n=40, seed=0):
    places = np.argwhere(edges.upstream)
    chosen = np.random.RandomState(seed).choice(len(places), min(n, len(places)), replace=False)
    return [(edges.senders[s], edges.receivers[r]) for s, r in places[chosen].tolist()]


@pytest.mark.parametrize("name", SMALL)
def test_an_edge_is_one_read_that_sees_one_sender_otherwise(name):
    model, hand = model_and_hand(name)
    for direction, (base, source) in {"noise": (IDS, OTHER), "denoise": (OTHER, IDS)}.items():
        edges = model.edges(IDS, OTHER, direction=direction, progress=False, **ANSWERS)
        assert (edges.senders, edges.receivers) == (hand.senders, hand.receivers)
        plain = metric(hand.plain(base)[0])
        for sender, receiver in some_edges(edges):
            expected = metric(hand.edge(base, source, sender, receiver)) - plain
            assert edges[sender, receiver] == pytest.approx(expected, abs=2e-5 * np.abs(edges.scores).max())
        assert not edges.scores[~edges.upstream].any()
        assert edges.interval.shape == edges.scores.shape and np.isnan(edges.interval).all()


def slope(hand, base, source, sender, receiver, start=None, step=1e-4):
    """The rate at which the metric changes with a share of the edge, by central differences in float64."""
    up, down = (metric(hand.edge(base, source, sender, receiver, s, start)) for s in (step, -step))
    return (up - down) / (2 * step)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("direction", ["noise", "denoise"])
def test_estimates_are_changes_times_gradients_of_a_reads_own_input(name, direction):
    model, hand = model_and_hand(name)
    base, source = (IDS, OTHER) if direction == "noise" else (OTHER, IDS)
    edges = model.edges(IDS, OTHER, method="eap", direction=direction, progress=False, **ANSWERS)
    for sender, receiver in some_edges(edges, 25):
        expected = slope(hand, base, source, sender, receiver)
        assert edges[sender, receiver] == pytest.approx(expected, abs=1e-5 * np.abs(edges.scores).max())


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_eap_ig_takes_gradients_on_the_way_the_source_included_and_the_base_not(name):
    model, hand = model_and_hand(name)
    steps = 3
    edges = model.edges(
        IDS, OTHER, method="eap-ig", steps=steps, direction="noise", progress=False, **ANSWERS
    )
    ours, theirs = hand.embed(IDS), hand.embed(OTHER)
    starts = [ours + j / steps * (theirs - ours) for j in range(1, steps + 1)]
    for sender, receiver in some_edges(edges, 12):
        expected = np.mean([slope(hand, IDS, OTHER, sender, receiver, start) for start in starts])
        assert edges[sender, receiver] == pytest.approx(expected, abs=1e-5 * np.abs(edges.scores).max())
    assert edges.steps == steps and "3 steps" in repr(edges)


def test_keys_and_values_are_by_key_value_head():
    edges = model_and_hand("llama")[0].edges(IDS, OTHER, method="eap", progress=False, **ANSWERS)
    reads = [name for name in edges.receivers if name.startswith("a1")]
    assert [sum(name.endswith(kind) for name in reads) for kind in "qkv"] == [4, 2, 2]


@pytest.mark.parametrize("method", ["exact", "eap", "eap-ig"])
def test_a_set_is_its_pairs_one_by_one(method):
    model, _ = model_and_hand("gpt2")
    longer = ((3, 17, 40, 9, 120, 66, 2), (3, 17, 40, 51, 12, 66, 2))
    pairs = [prompts.Pair(list(a), list(b), **ANSWERS) for a, b in ((IDS, OTHER), longer)]
    found = model.edges(pairs, method=method, progress=False)
    for i, (a, b) in enumerate(((IDS, OTHER), longer)):
        alone = model.edges(a, b, method=method, progress=False, **ANSWERS)
        np.testing.assert_allclose(found.per_pair[i], alone.scores, atol=1e-6)
    np.testing.assert_allclose(found.scores, found.per_pair.mean(0), atol=1e-12)
    assert np.isfinite(found.interval).all() and found.to_rows()[0]["low"] <= found.to_rows()[0]["high"]


def test_with_positions_only_their_contributions_are_patched():
    model, _ = model_and_hand("gpt2")
    whole = model.edges(IDS, OTHER, method="eap", progress=False, **ANSWERS)
    parts = [
        model.edges(IDS, OTHER, method="eap", positions=p, progress=False, **ANSWERS)
        for p in ([0, 1, 2], [3, 4, 5])
    ]
    np.testing.assert_allclose(sum(part.scores for part in parts), whole.scores, atol=1e-5)  # linear
    exact = model.edges(IDS, OTHER, positions=[0], progress=False, **ANSWERS)
    assert not exact.scores.any()  # the first tokens are the same


def test_the_last_layers_edges_to_the_logits_are_what_all_positions_give():
    """Noise on the subject has samples: scores are means over them."""
    from mlxtrace import GaussianNoise

    model, _ = model_and_hand("gpt2")
    noise = GaussianNoise(subject=[1, 2], level=0.5, samples=3)
    exact = model.edges(IDS, noise, metric="logit", target=5, progress=False)
    assert np.abs(exact.scores).max() > 0
    for direction in ("denoise", "noise"):
        for method in ("eap", "eap-ig"):
            found = model.edges(
                IDS, noise, method=method, metric="logit", target=5, direction=direction, progress=False
            )
            assert np.isfinite(found.scores).all() and found.scores.any()


def test_what_cannot_mean_anything_is_refused_before_any_work():
    model, _ = model_and_hand("gpt2")
    for wrong, said in (
        ({"method": "EAP_IG"}, "eap-ig"),
        ({"method": "eap-ig", "metric": "prob"}, "logit_diff"),
        ({"metric": ["logit", "prob"]}, "one metric"),
        ({"positions": "each"}, "path_patching"),
        ({"direction": "up"}, "denoise"),
        ({"method": "eap", "metric": "rank"}, "no gradient"),
        ({"method": "eap-ig", "steps": 0}, "steps"),
    ):
        with pytest.raises(InputError, match=said):
            model.edges(IDS, OTHER, progress=False, **{**ANSWERS, **wrong})
    with pytest.raises(UnsupportedError, match="cannot be patched"):
        InterpretableModel(models.make("mamba")).edges(IDS, OTHER, progress=False, **ANSWERS)


def test_scores_are_saved_and_read_as_they_are(tmp_path):
    model, _ = model_and_hand("gpt2")
    edges = model.edges(IDS, OTHER, method="eap-ig", progress=False, **ANSWERS)
    again = Edges.load(edges.save(tmp_path / "edges"))
    assert np.array_equal(again.scores, edges.scores) and np.array_equal(again.upstream, edges.upstream)
    assert repr(again) == repr(edges) and again.approximate
    bound = model.circuit(again)
    pair = (list(IDS), list(OTHER))
    with pytest.raises(InputError, match="no pairs"):
        bound.circuit(30).faithfulness()
    assert bound.circuit(30).n == edges.circuit(30).n
    assert np.isfinite(bound.circuit(30).faithfulness(pair))
