"""The law of whole answers: it holds, and a token, a context or an answer that is left out breaks it."""

import numpy as np
import pytest
from models import make

from mlxtrace import InterpretableModel
from mlxtrace.engine.plan import Request
from mlxtrace.experiments.sweeps import Job
from mlxtrace.experiments.whole_answers import Scoring, WholeMeasured
from mlxtrace.laws.answer_laws import whole_answers
from mlxtrace.laws.law import DoesNotApply
from mlxtrace.laws.model_under_test import ModelUnderTest


def measured(name="llama"):
    return whole_answers(ModelUnderTest(InterpretableModel(make(name))))


@pytest.mark.parametrize(
    "name",
    [
        "llama",
        # the same law on the same model is quick in identities/test_architectures.py
        pytest.param("mamba", marks=pytest.mark.heavy),
        pytest.param("gemma2", marks=pytest.mark.heavy),
        pytest.param("gpt2", marks=pytest.mark.heavy),
    ],
)
def test_it_holds(name):
    found = measured(name)
    assert found.error <= found.tolerance


def first_token_only(self, answers, context, window, added=Scoring._added):
    return added(self, [answer[:1] for answer in answers], context, window)


def first_answer_only(self, answers, context, window, added=Scoring._added):
    return added(self, answers[:1], context, window)


def in_reverse(self, run, runs=Job.runs):
    n = len(run.ids)
    return [type(one)((*one.ids[:n], *one.ids[n:][::-1]), one.noise, one.noised) for one in runs(self, run)]


def of_the_first_context(self, parts, combined=WholeMeasured.combined):
    return combined(self, parts[:1])


@pytest.mark.parametrize(
    "place, name, fault",
    [
        (Scoring, "_added", first_token_only),
        (Scoring, "_added", first_answer_only),
        (Job, "runs", in_reverse),
        (WholeMeasured, "combined", of_the_first_context),
        (Request, "read", property(lambda self: 1)),
    ],
)
def test_a_fault_breaks_it(monkeypatch, place, name, fault):
    monkeypatch.setattr(place, name, fault)
    try:
        found = measured()
    except (ValueError, IndexError):  # numbers that are none, or too few logits
        return
    assert not np.isfinite(found.error) or found.error > found.tolerance


def test_a_model_that_sees_later_tokens_has_no_such_answers(monkeypatch):
    tested = ModelUnderTest(InterpretableModel(make("llama")))
    monkeypatch.setattr(type(tested.sweep), "chosen", property(lambda self: type("E", (), {"causal": False})))
    with pytest.raises(DoesNotApply, match="later tokens"):
        whole_answers(tested)
