"""Calls on batches of pairs: options, what is a pair's own fault, and halves of a batch that fails."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from pair_runs import OTHER, PAIRS, QUICK, model, of  # noqa: F401

from mlxtrace import GaussianNoise
from mlxtrace.errors import AlignmentError, EngineError, InputError, SubjectError
from mlxtrace.prompts import pair_calls
from mlxtrace.prompts.pair_calls import CALLS, Calls
from mlxtrace.prompts.pair_lists import named
from mlxtrace.prompts.pair_results import KINDS

OPTIONS = {name: value for name, value in QUICK.items() if name != "progress"}


def test_every_experiment_has_a_call():
    assert CALLS.keys() == KINDS.keys()


def test_settings_have_every_option_that_numbers_depend_on(model):
    calls = Calls(model, "activation_patching", {"component": "mlp", "layers": range(2), "engine": "flat"})
    assert calls.settings["layers"] == [0, 1] and calls.settings["direction"] == "denoise"
    assert calls.settings["metric"] == "prob" and calls.together
    assert not {"engine", "max_memory", "progress", "target", "plot", "model"} & calls.settings.keys()
    several = Calls(model, "activation_patching", {"metric": ["auto", "kl"], "layers": iter([2])})
    assert several.settings["metric"] == ["prob", "kl"] and several.settings["layers"] == [2]
    traces = Calls(model, "causal_trace", {})
    traces.scale(["Rome", "Paris"])
    assert traces.settings["noise"] == "s3" and traces.settings["noise_level"] > 0 and not traces.together


@pytest.mark.parametrize(
    ("experiment", "option", "says"),
    [
        ("activation_patching", "sample", "no option 'sample'"),
        ("causal_trace", "component", "no option 'component'"),
        ("causal_effects", "source", r"Pair\(..., clean="),
        ("causal_effects", "base", r"Pair\(..., corrupted="),
        ("noising_window", "prompt", r"Pair\(..., clean="),
        ("activation_patching", "foil", r"Pair\(..., foil="),
        ("activation_patching", "plot", "average.png"),
    ],
)
def test_options_that_there_are_not(model, experiment, option, says):
    with pytest.raises(InputError, match=says):
        Calls(model, experiment, {option: "x"})


def test_each_pair_has_its_result_or_why_not(model):
    bad = [of("Louvre", "nowhere"), prompts_of(OTHER), of("Colosseum")]
    pairs = named([*PAIRS[:3], *bad])
    found = list(Calls(model, "activation_patching", OPTIONS).on(pairs))
    assert [result is None for result, _ in found] == [False, False, False, True, True, False]
    assert [bool(why) for _, why in found] == [False, False, False, True, True, False]
    assert "nowhere" in found[3][1] and "the same tokens" in found[4][1]
    assert found[2][0].clean_text == pairs[2].clean and found[5][0].clean_text == pairs[5].clean


def test_a_region_that_one_pair_does_not_have_is_its_own_fault(model):
    pairs = [replace(PAIRS[0], regions={"X": where}) for where in (2, 99, "Eiffel", "Louvre")]
    options = {**OPTIONS, "positions": "regions", "layers": 0}
    found = list(Calls(model, "activation_patching", options).on(named(pairs)))
    assert [bool(why) for _, why in found] == [False, True, False, True]
    assert "99" in found[1][1] and "Louvre" in found[3][1]


def prompts_of(text):
    return replace(PAIRS[0], clean=text, corrupted=text, subject=None)


def test_a_batch_is_one_call_and_halves_are_tried_where_it_fails(model, monkeypatch):
    asked = []

    def call(model, pairs, options):
        asked.append([pair.id for pair in pairs])
        for pair in pairs:
            if pair.id == "0005":
                raise error
        return [SimpleNamespace(id=pair.id, notes=[]) for pair in pairs]

    monkeypatch.setitem(CALLS, "activation_patching", call)
    pairs, calls = named([of("Louvre")] * 8), Calls(model, "activation_patching", {})
    error = AlignmentError("they do not line up")
    found = list(calls.on(pairs))
    assert [getattr(single, "id", why) for single, why in found] == [
        *(pair.id for pair in pairs[:5]), "they do not line up", "0006", "0007"
    ]  # fmt: skip
    assert asked[0] == [pair.id for pair in pairs] and len(asked) == 7
    for wrong in (EngineError("nan"), InputError("engine")):
        error = wrong
        with pytest.raises(type(wrong), match="pair 0005: "):
            list(calls.on(pairs))
    error = SubjectError("it is not there")
    assert list(calls.on(pairs))[5] == (None, "it is not there")
    assert list(calls.on(pairs[:5])) and asked[-1] == [pair.id for pair in pairs[:5]]


def test_numbers_of_a_batch_do_not_ask_for_a_gap(model):
    """A metric that no pair of a batch moves, as when the other pairs of the set are in other batches."""
    hello = named([prompts_of("Hello you"), prompts_of("Hello him")])
    hello = [replace(pair, corrupted=f"Goodbye {pair.clean.split()[1]}") for pair in hello]
    calls = Calls(model, "activation_patching", {**OPTIONS, "metric": lambda logits: 0 * logits[:, 0]})
    for single, _ in calls.on(hello):
        assert single.clean == single.corrupted == 0 and np.isnan(single.recovery).all()


def test_traces_of_all_subjects(model):
    pairs = [replace(pair, corrupted=None) for pair in PAIRS[:2]]
    calls = Calls(model, "causal_trace", {"samples": 1})
    calls.scale([pair.subject for pair in pairs])
    ((trace, _),) = calls.on(named(pairs)[:1])
    alone = model.causal_trace(
        pairs[0].clean, pairs[0].subject, samples=1, subjects=[pair.subject for pair in pairs], progress=False
    )
    np.testing.assert_allclose(trace.raw, alone.raw, atol=1e-6)
    assert trace.notes == alone.notes
    other = Calls(model, "causal_trace", {"samples": 1})
    other.scale([range(1, 3)])
    assert "whole embedding table" in next(other.on(named(pairs)[:1]))[0].notes[0]
    given = Calls(model, "causal_trace", {"samples": 1, "subjects": ["Rome"]})
    given.scale([pair.subject for pair in pairs])
    assert given.settings["noise_level"] != calls.settings["noise_level"]


def test_noise_is_a_corruption(model):
    pairs = named(["The Louvre is in"], GaussianNoise(subject="Louvre", samples=2))
    ((single, _),) = Calls(model, "activation_patching", {"layers": 0}).on(pairs)
    assert single.settings["corruption"] and pair_calls.OF_A_PAIR["subject"] == "subject"
