"""Circuits against a model written out in NumPy, and what faithfulness is at both ends and in between."""

from __future__ import annotations

import functools

import models
import numpy as np
import pytest
from edges_by_hand import Hand
from noise import allowed

from mlxtrace import InterpretableModel, compiled, prompts
from mlxtrace.errors import AlignmentError, InputError
from mlxtrace.experiments.circuits import Circuit

IDS, OTHER = (3, 17, 40, 9, 120, 66), (3, 88, 40, 51, 120, 66)
LONGER = ((3, 17, 40, 9, 12, 66, 2), (3, 17, 40, 51, 12, 66, 2))
ANSWERS = {"target": 5, "foil": 77}
SMALL = {"gpt2": {"n_layer": 2}, "llama": {"num_hidden_layers": 2}, "qwen3": {"num_hidden_layers": 2}}


@functools.cache
def scored(name="gpt2", **options):
    net = models.make(name, **SMALL[name])
    model = InterpretableModel(net)
    return model, Hand(net), model.edges(IDS, OTHER, method="eap", progress=False, **ANSWERS, **options)


def metric(logits):
    return logits[ANSWERS["target"]] - logits[ANSWERS["foil"]]


def by_hand(hand, circuit, clean=IDS, corrupted=OTHER):
    kept = {(s, r) for s, r in circuit.edges}
    ends = metric(hand.plain(clean)[0]), metric(hand.plain(corrupted)[0])
    found = metric(hand.circuit(clean, corrupted, lambda s, r: (s, r) in kept))
    return (found - ends[1]) / (ends[0] - ends[1])


@pytest.mark.parametrize("name", SMALL)
def test_a_circuit_does_what_the_model_written_out_does(name):
    model, hand, edges = scored(name)
    off = allowed(model) * np.abs(hand.plain(IDS)[0]).max() / abs(edges.gap)  # logits, as a share of the gap
    for n in (5, 20, 60, 72):
        for by in ("top", "greedy"):
            circuit = edges.circuit(n, by)
            assert circuit.faithfulness() == pytest.approx(by_hand(hand, circuit), abs=off)
    whole, none = edges.circuit(edges.n), edges.circuit(0)
    assert whole.faithfulness() == pytest.approx(1, abs=off)
    assert none.faithfulness() == pytest.approx(0, abs=off)
    assert whole.n == edges.n and none.n == 0


@pytest.mark.parametrize("name", SMALL)
def test_one_edge_dropped_is_that_edge_patched_by_itself(name):
    model, _, edges = scored(name)
    noise = model.edges(IDS, OTHER, direction="noise", progress=False, **ANSWERS)
    drops = {(r["sender"], r["receiver"]): r["drop"] for r in edges.circuit(edges.n).minimality()}
    assert len(drops) == edges.n
    for (sender, receiver), drop in drops.items():
        assert -drop * noise.gap == pytest.approx(noise[sender, receiver], abs=2e-5 * abs(noise.gap))


def test_edges_that_lead_nowhere_change_nothing():
    _, _, edges = scored()
    for n in (10, 25, 60):
        pruned, raw = edges.circuit(n), edges.circuit(n, prune=False)
        assert raw.n == pruned.asked == n >= pruned.n
        assert raw.faithfulness() == pytest.approx(pruned.faithfulness(), abs=1e-6)
    lost = edges.circuit(10)
    assert lost.n == 10 or f"{10 - lost.n} of the 10 edges" in repr(lost)


def test_random_circuits_and_subsets_are_run_as_others_are():
    _, hand, edges = scored()
    circuit = edges.circuit(60)
    found = circuit.random(3, seed=4)
    assert found.shape == (3,) and np.array_equal(found, circuit.random(3, seed=4))
    assert not np.array_equal(found, circuit.random(3, seed=5))
    assert circuit.complement.faithfulness() == pytest.approx(by_hand(hand, circuit.complement), abs=2e-5)
    complete = circuit.completeness(draws=4)
    assert float(complete.complement) == pytest.approx(circuit.complement.faithfulness(), abs=1e-6)
    assert len(complete.circuit) == len(complete.model) == 4 and complete.gap >= 0
    assert "4 draws" in repr(complete)
    less = circuit.without(circuit.edges[0])
    assert less.n == circuit.n - 1 and circuit.edges[0] not in less and circuit.edges[0] in circuit
    assert less.faithfulness() == pytest.approx(by_hand(hand, less), abs=2e-5)


def test_the_curve_has_mibs_sizes_and_areas():
    _, hand, edges = scored()
    curve = edges.curve(random=2)
    assert curve.sizes == [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    assert curve.asked == [int(share * edges.n) for share in curve.sizes] and curve.random.shape == (10, 2)
    expected = [by_hand(hand, edges.circuit(n)) if n else 0.0 for n in curve.asked]
    np.testing.assert_allclose(curve.faithfulness, expected, atol=2e-5)
    under = between = 0.0
    for i in range(9):  # MIB's trapezoids
        width = curve.sizes[i + 1] - curve.sizes[i]
        under += width * (expected[i] + expected[i + 1]) / 2
        between += width * (abs(1 - expected[i]) + abs(1 - expected[i + 1])) / 2
    assert curve.cpr == pytest.approx(under, abs=2e-5) and curve.cmd == pytest.approx(between, abs=2e-5)
    np.testing.assert_allclose(curve.random[-1], 1, atol=1e-5)  # all edges
    by_sign = edges.curve(random=0, absolute=False, sizes=(0.1, 1))
    helping = edges.circuit(int(0.1 * edges.n), absolute=False)
    assert by_sign.faithfulness[0] == pytest.approx(helping.faithfulness(), abs=1e-6)
    assert all(row["score"] * edges.gap >= 0 for row in helping.to_rows())


def test_a_set_is_mean_over_mean_whatever_the_lengths():
    model, hand, _ = scored()
    pairs = [prompts.Pair(list(a), list(b), **ANSWERS) for a, b in ((IDS, OTHER), LONGER)]
    circuit = model.edges(pairs, method="eap", progress=False).circuit(40)
    found = circuit.faithfulness()
    kept = set(circuit.edges)
    values = [metric(hand.circuit(a, b, lambda s, r: (s, r) in kept)) for a, b in ((IDS, OTHER), LONGER)]
    ends = np.array([[metric(hand.plain(x)[0]) for x in pair] for pair in ((IDS, OTHER), LONGER)])
    expected = (np.mean(values) - ends[:, 1].mean()) / (ends[:, 0].mean() - ends[:, 1].mean())
    assert float(found) == pytest.approx(expected, abs=2e-5)
    assert found.ids == ["0", "1"] and np.isfinite(found.interval) and "2 pairs" in repr(found)
    np.testing.assert_allclose(found.per_pair, (values - ends[:, 1]) / (ends[:, 0] - ends[:, 1]), atol=5e-5)
    one = circuit.faithfulness(pairs[1])
    assert float(one) == pytest.approx(found.per_pair[1], abs=2e-5)
    assert f"{one:.2f}" == f"{float(one):.2f}"


def test_little_memory_gives_the_same_numbers():
    model, _, edges = scored()
    small = model.edges(IDS, OTHER, method="eap", progress=False, max_memory=20_000_000, **ANSWERS)
    np.testing.assert_allclose(small.scores, edges.scores, atol=1e-6)
    ours, theirs = edges.circuit(30).minimality(), small.circuit(30).minimality()
    assert [row["receiver"] for row in ours] == [row["receiver"] for row in theirs]
    np.testing.assert_allclose([row["drop"] for row in ours], [row["drop"] for row in theirs], atol=1e-6)


def test_a_saved_circuit_is_bound_to_a_model_again(tmp_path):
    model, _, edges = scored()
    circuit = edges.circuit(30, by="greedy")
    path = circuit.save(tmp_path / "circuit")
    again = Circuit.load(path)
    assert np.array_equal(again.kept, circuit.kept) and np.array_equal(again.scores, circuit.scores)
    assert repr(again) == repr(circuit) and again.compare(circuit)["jaccard"] == 1
    with pytest.raises(InputError, match=r"model\.circuit\(circuit\)"):
        again.faithfulness()
    pair = prompts.Pair(list(IDS), list(OTHER), **ANSWERS)
    for bound in (model.circuit(path), model.circuit(again)):
        assert float(bound.faithfulness(pair)) == float(circuit.faithfulness())
        assert (
            bound.without(bound.edges[0]).faithfulness(pair)
            == circuit.without(circuit.edges[0]).faithfulness()
        )
    with pytest.raises(InputError, match="no pairs"):
        model.circuit(again).faithfulness()
    with pytest.raises(InputError, match="senders"):
        InterpretableModel(models.make("llama")).circuit(again)
    with pytest.raises(InputError, match="bound to a model"):
        model.circuit(3)


def test_prompts_of_different_lengths_make_no_circuit():
    model, _, edges = scored()
    found = model.edges(list(IDS), list(OTHER)[1:], align="ends", method="eap", progress=False, **ANSWERS)
    with pytest.raises(AlignmentError, match="one length"):
        found.circuit(10).faithfulness()
    with pytest.raises(AlignmentError):
        edges.circuit(10).faithfulness(prompts.Pair(list(IDS), list(OTHER)[1:], **ANSWERS))


def test_of_a_compiled_program_every_edge_is_right_and_its_circuit_is_found():
    program = compiled.lookup(seed=3)
    model, pair = InterpretableModel(program.net, program.tokenizer), program.pairs[0]
    edges = model.edges(pair, progress=False)
    target, foil = (model.answer_token(text) for text in (edges.targets[0], edges.foils[0]))
    plain = program.interpreter.logits(pair.corrupted)
    for sender, receiver, score in [tuple(row.values())[:3] for row in edges.to_rows()[::7] + edges.top(8)]:
        logits = program.interpreter.edge(pair.clean, pair.corrupted, sender, receiver)
        expected = (logits[target] - logits[foil]) - (plain[target] - plain[foil])
        assert score == pytest.approx(expected, abs=1e-6)
    found = edges.circuit(1e-6, by="threshold")
    assert found.faithfulness() == pytest.approx(1, abs=1e-6) and found.n < 10 and not found.notes
    assert all(row["drop"] == pytest.approx(1, abs=1e-6) for row in found.minimality())
    assert found.complement.faithfulness() == pytest.approx(0, abs=1e-6)
