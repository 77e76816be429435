"""The engine that a model takes: one that gives the loop's numbers, measured once."""

import pytest
from models import make

from mlxtrace import InterpretableModel, errors
from mlxtrace.engine import choice
from mlxtrace.engine.batch import Batch

CLEAN = [3, 17, 40, 41, 52, 60, 77, 8, 9]
CORRUPTED = [3, 17, 90, 91, 52, 60, 77, 8, 9]


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(make("llama"))


def test_auto_is_the_fastest_that_is_right(model):
    engine = choice.choose(model.resolver)
    assert (engine.name, engine.prefix, engine.causal, engine.why) == ("fanout", True, True, "")
    for name in ("fanout", "flat", "loop"):
        asked = choice.choose(model.resolver, name)
        assert (asked.name, asked.why) == (name, "asked for")
    for wrong in ("Fanout", "", None, 3, ["flat"]):
        with pytest.raises(errors.InputError, match="engine"):
            choice.choose(model.resolver, wrong)


def test_the_trial_is_run_once_while_the_weights_stay(model, monkeypatch):
    trial = choice.trial_sweep(model.resolver)
    choice.choose(model.resolver)
    monkeypatch.setattr(choice.TrialSweep, "_sweep", lambda *a: pytest.fail("a sweep was run again"))
    choice.choose(model.resolver), choice.choose(model.resolver, "flat")
    assert choice.trial_sweep(model.resolver) is trial
    model.resolver.measured.clear()
    assert choice.trial_sweep(model.resolver) is not trial


def test_the_two_prompts_differ_in_two_tokens(model):
    trial = choice.trial_sweep(model.resolver)
    different = [i for i, (a, b) in enumerate(zip(trial.base.ids, trial.source.ids, strict=True)) if a != b]
    assert different == [2, 3] and len(trial.base.ids) == 8
    assert trial.causal and trial.axes == {}


def test_engines_are_held_against_the_loop(monkeypatch):
    """An engine whose patched rows are wrong while its base rows are right is not chosen, and it is said why."""
    honest = Batch.run

    def dishonest(self):
        logits = honest(self)
        logits[self.base.rows :] *= 1.01
        return logits

    monkeypatch.setattr(Batch, "run", dishonest)
    engine = choice.choose(InterpretableModel(make("llama", seed=5)).resolver)
    assert engine.name == "loop"
    assert engine.why.count("logits differ from the loop's by") == 2


def test_a_model_that_cannot_be_swept_takes_the_loop(monkeypatch):
    def broken(self):
        raise ValueError("shapes do not fit")

    monkeypatch.setattr(Batch, "run", broken)
    engine = choice.choose(InterpretableModel(make("llama", seed=6)).resolver)
    assert engine.name == "loop" and "ValueError: shapes do not fit" in engine.why


def test_caches_of_another_kind_are_no_prefix():
    trial = choice.trial_sweep(InterpretableModel(make("gemma4_text")).resolver)
    assert "RotatingKVCache" in trial.has_no_prefix() and not trial.shares_prefix()
    assert trial.axes  # its layers are given embeddings of their own
    assert choice.choose(trial.resolver).prefix is False


def test_an_engine_that_is_wrong_here_is_refused(monkeypatch):
    other = InterpretableModel(make("llama", seed=3))
    trial = choice.trial_sweep(other.resolver)
    monkeypatch.setattr(type(trial), "wrong", lambda self, name: "it is off by 3")
    with pytest.raises(errors.EngineError, match="off by 3"):
        other.activation_patching(CLEAN, CORRUPTED, engine="fanout")
    assert choice.choose(other.resolver).name == "loop"
