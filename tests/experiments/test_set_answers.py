"""Answers and metric of a set, settled on its plain runs."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from mlxtrace import InterpretableModel, metrics
from mlxtrace.errors import EffectError, TokenError
from mlxtrace.experiments.pair_sets import read_pairs
from mlxtrace.experiments.set_answers import answers_of_set
from mlxtrace.prompts import Pair

EIFFEL, COLOSSEUM = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
LOUVRE = "The Louvre Museum is in the city of"


@pytest.fixture(scope="module")
def demo():
    return InterpretableModel("demo")


def test_answers_are_those_of_each_pair_alone(demo):
    pairs = [
        Pair(EIFFEL, COLOSSEUM),
        Pair(COLOSSEUM, LOUVRE),
        Pair("Paris is in the country of", "Rio is in the country of"),
    ]
    found = answers_of_set(demo, read_pairs(demo, pairs, align="ends"), "auto")
    singles = [demo.activation_patching(p, layers=0, align="ends", progress=False) for p in pairs]
    assert found.targets == [s.target.token for s in singles]
    assert found.foils == [s.foil.token for s in singles]
    assert found.metric == "prob" and found.notes == []


def test_pairs_with_one_answer_are_named(demo):
    same = Pair(EIFFEL, LOUVRE, id="same")
    made = read_pairs(demo, [same, Pair(EIFFEL, COLOSSEUM)])
    found = answers_of_set(demo, made, "auto")
    assert found.foils[0] is None and found.metric == "prob" and "1 of 2 pairs (same)" in found.notes[0]
    with pytest.raises(EffectError, match="pair same: logit_diff sets two answers"):
        answers_of_set(demo, made, "logit_diff")
    all_same = answers_of_set(demo, read_pairs(demo, [same]), ["auto", "logit"])
    assert all_same.metric == ["kl", "logit"] and any("kl is measured" in note for note in all_same.notes)


def test_a_gap_that_is_nothing_on_average_is_refused_before_anything_is_patched(demo, monkeypatch):
    monkeypatch.setattr("mlxtrace.experiments.activation_patching.sweep_pairs", lambda *a, **k: pytest.fail())
    pairs = [Pair(EIFFEL, COLOSSEUM), Pair(COLOSSEUM, EIFFEL)]
    with pytest.raises(EffectError, match="hardly moves logit"):
        demo.activation_patching(
            [Pair(EIFFEL, COLOSSEUM, " Paris"), Pair(COLOSSEUM, EIFFEL, " Paris")], metric="logit"
        )
    assert answers_of_set(demo, read_pairs(demo, pairs), "prob").metric == "prob"


def test_functions_are_metrics_too(demo):
    made = read_pairs(demo, [Pair(EIFFEL, COLOSSEUM)])
    assert answers_of_set(demo, made, lambda logits: logits[:, 7]).metric is not None

    @metrics.every_position
    def mean_logit(logits):
        return np.asarray(logits)[:, :, 7].mean(1)

    assert answers_of_set(demo, made, mean_logit).metric is mean_logit


def test_every_pair_with_a_wrong_answer_is_named(demo):
    pairs = [Pair(EIFFEL, COLOSSEUM, id="a"), Pair(EIFFEL, COLOSSEUM, target="no token at all", id="b")]
    with pytest.raises(TokenError, match="1 of 2 pairs cannot be used: pair b"):
        answers_of_set(demo, read_pairs(demo, pairs), "prob")


def test_one_pair_with_one_answer_is_warned_of_where_the_call_stands(demo):
    with pytest.warns(UserWarning, match="same answer") as caught:
        result = demo.activation_patching(EIFFEL, LOUVRE, layers=[0], progress=False)
    assert [warning.filename for warning in caught] == [__file__] and result.metrics == ["kl"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        demo.activation_patching([Pair(EIFFEL, LOUVRE)], layers=[0], progress=False)  # a set's notes say it
