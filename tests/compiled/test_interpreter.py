"""Every cell and every edge of compiled programs: the model does what the interpreter says, to the last bit."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from gpt2_edges import Edges

from mlxtrace import InterpretableModel, compiled, errors, metrics
from mlxtrace.compiled.reads import all_edges
from mlxtrace.compiled.rule_pass import HEADED, STREAMS

PROGRAMS = (compiled.lookup, compiled.induction)


def differences(model, program, pair, direction, components=(*STREAMS, *HEADED), **options):
    """By component, the largest difference between the experiment's logit differences and the interpreter's."""
    found = {}
    for component in components:
        result = model.activation_patching(
            pair,
            component=component,
            positions="each",
            metric="logit_diff",
            direction=direction,
            progress=False,
            **options,
        )
        answers = pair.target, pair.foil
        told = program.interpreter.cells(pair.clean, pair.corrupted, component, answers, direction)
        assert result.raw.shape == told.shape, component
        assert len(np.unique(told)) > 1 or component in ("q", "k", "pattern", "v", "head", "attn", "mlp")
        found[component] = np.abs(result.raw - told).max()
    return found


@pytest.mark.parametrize("make", PROGRAMS)
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.heavy) for n in (1, 2))])
def test_every_cell_is_exact(make, seed):
    program = make(seed)
    model = InterpretableModel(program)
    kinds = {pair.id: pair for pair in program.pairs}
    pair = [*kinds.values()][(7 * seed + 3) % len(kinds)]
    direction = ("denoise", "noise")[seed % 2]
    assert set(differences(model, program, pair, direction).values()) == {0.0}


@pytest.mark.parametrize("make", PROGRAMS)
def test_every_cell_of_a_llama_is_exact(make):
    program = make(6, "llama")
    found = differences(InterpretableModel(program), program, program.pairs[3], "denoise")
    assert set(found.values()) == {0.0}


@pytest.mark.heavy
@pytest.mark.parametrize("make", PROGRAMS)
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("seed", range(50))
def test_every_cell_of_many_seeds_is_exact(make, seed, architecture):
    program = make(seed, architecture)
    model = InterpretableModel(program)
    for pair in program.pairs:
        for direction in ("denoise", "noise"):
            assert set(differences(model, program, pair, direction).values()) == {0.0}, pair.id
    for direction in ("denoise", "noise"):
        found = differences(model, program, program.pairs[seed % 4], direction, ["neuron"], neurons="each")
        assert found == {"neuron": 0.0}


@pytest.mark.parametrize("engine", ["fanout", "flat", "loop"])
def test_every_engine_is_exact(engine):
    program = compiled.induction(4)
    model = InterpretableModel(program)
    some = ["resid_mid", "k", "pattern", "head"]
    assert set(differences(model, program, program.pairs[0], "denoise", some, engine=engine).values()) == {
        0.0
    }


def test_every_single_neuron_is_exact():
    program = compiled.induction(2)
    found = differences(
        InterpretableModel(program), program, program.pairs[2], "noise", ["neuron"], neurons="each"
    )
    assert found == {"neuron": 0.0}
    program = compiled.lookup(2)
    pair, answers = program.pairs[0], (program.pairs[0].target, program.pairs[0].foil)
    made = InterpretableModel(program).activation_patching(
        pair, component="neuron", neurons="each", layers=3, positions="each", metric="logit_diff",
        progress=False,
    )  # fmt: skip
    told = program.interpreter.cells(pair.clean, pair.corrupted, "neuron", answers)
    assert (made.raw[0] == told[3]).all() and len(np.unique(told[3])) > 1


def edges_that_matter(program, pair, direction, every=1):
    """How many of the edges change the logits; each is compared with a pass by hand."""
    texts = pair.clean, pair.corrupted
    runs = [program.interpreter.ids(text) for text in texts]
    by_hand = Edges(program.net, *(runs[::-1] if direction == "denoise" else runs))
    plain, moved = program.interpreter.logits(texts[direction == "denoise"]), 0
    for sender, receiver in all_edges(program.rules)[::every]:
        told = program.interpreter.edge(*texts, sender, receiver, direction=direction)
        assert (told == by_hand.logits(sender, receiver)).all(), (sender, receiver)
        moved += bool((told != plain).any())
    return moved


def test_edges_are_exact():
    program = compiled.induction(3)
    assert 0 < edges_that_matter(program, program.pairs[1], "denoise") < 20
    program = compiled.lookup(3)
    assert 0 < edges_that_matter(program, program.pairs[4], "noise", every=5) < 20


@pytest.mark.heavy
@pytest.mark.parametrize("make", PROGRAMS)
@pytest.mark.parametrize("seed", range(50))
def test_every_edge_of_many_seeds_is_exact(make, seed):
    program = make(seed)
    for number in (seed % 8, (seed + 3) % 8):
        for direction in ("denoise", "noise"):
            edges_that_matter(program, program.pairs[number], direction)


def test_windows_and_several_positions_are_exact():
    program = compiled.lookup(5)
    model, pair = InterpretableModel(program), program.pairs[0]
    for direction in ("denoise", "noise"):
        made = model.activation_patching(
            pair, component="mlp", positions=[2, 5, 12], window=3, metric="logit", direction=direction,
            progress=False,
        )  # fmt: skip
        target = program.rules.words.index(pair.target.strip())
        windows = [[0, 1], [0, 1, 2], [1, 2, 3], [2, 3]]
        told = [
            program.interpreter.cell(pair.clean, pair.corrupted, "mlp", w, [2, 5, 12], direction=direction)[
                target
            ]
            for w in windows
        ]
        assert made.raw.tolist() == told


def test_probabilities_follow_from_the_logits():
    program = compiled.lookup()
    pair = program.pairs[0]
    made = InterpretableModel(program).activation_patching(
        pair, component="head", positions="last", metric="prob", progress=False
    )
    last = len(program.interpreter.ids(pair.clean)) - 1
    for layer in range(4):
        for head in range(4):
            logits = program.interpreter.cell(pair.clean, pair.corrupted, "head", layer, [last], head)
            target = program.rules.words.index(pair.target.strip())
            assert made.raw[layer, head] == pytest.approx(metrics.softmax(logits)[target], abs=1e-15)


def test_it_refuses_what_is_no_cell_and_no_edge():
    found = compiled.lookup().interpreter
    one, two = (pair.clean for pair in compiled.lookup().pairs[:2])
    for wrong in (
        lambda: found.cell(one, two, "self_attn", 0, [0]),
        lambda: found.cell(one, two, "mlp", 0, [0], direction="back"),
        lambda: found.cell(one, two + " a", "mlp", 0, [0]),
        lambda: found.edge(one, two, "m1", "m1"),
        lambda: found.edge(one, two, "a1.h0", "a1.h1.k"),
        lambda: found.edge(one, two, "m7", "logits"),
        lambda: found.edge(one, two, "embed", "a0.h4.q"),
        lambda: found.edge(one, two, "a0.h0.q", "m0"),
    ):
        with pytest.raises(errors.InputError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrong()


def test_words_and_ids_are_read_alike():
    program = compiled.lookup()
    clean = program.pairs[0].clean
    assert (
        program.interpreter.logits(clean) == program.interpreter.logits(program.tokenizer.encode(clean))
    ).all()
    unknown = program.interpreter.ids("Nobody met")
    assert unknown[1] == program.rules.words.index("<unk>")
