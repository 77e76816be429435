"""Answers and metrics of an experiment: which tokens they are, and what is refused before a sweep."""

import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel, metrics
from mlxtrace.errors import EffectError, InputError
from mlxtrace.experiments import pairs
from mlxtrace.experiments.answers import answer_token, answers_of, one_answer, settle

CLEAN = np.array([[0.0, 4.0, 1.0, 0.0]])  # says token 1
CORRUPTED = np.array([[3.0, 0.0, 1.0, 0.0], [2.5, 0.0, 1.0, 2.0]])  # two samples that say token 0
LOGITS = (CLEAN, CORRUPTED)


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(models.make("llama", seed=2))


@pytest.fixture(scope="module")
def pair(model):
    return pairs.pair(model, [3, 17, 5, 90], [3, 17, 66, 90])


def test_without_a_name_an_answer_is_the_likeliest_over_the_samples(model, pair):
    assert answer_token(model, None, None, CLEAN) == 1
    samples = np.array([[0.0, 2.0], [0.0, 2.0], [9.0, 0.0]])  # the mean of the logits would say 0
    assert answer_token(model, None, None, samples) == 1
    assert answer_token(model, 2, pair.clean_prompt, CLEAN) == 2


def test_answers_have_their_probability_in_both_runs(model, pair):
    answers = answers_of(model, pair, None, None, *LOGITS)
    assert (answers.target.token, answers.foil.token, answers.same, answers.restored) == (1, 0, False, False)
    assert answers.foil.clean_prob == pytest.approx(metrics.softmax(CLEAN[0])[0])
    assert answers.target.corrupted_prob == pytest.approx(metrics.softmax(CORRUPTED)[:, 1].mean())


def test_each_answer_is_read_after_its_own_prompt(model, pair, monkeypatch):
    asked = []
    monkeypatch.setattr(
        type(model), "answer_tokens", lambda self, answer, prompt: asked.append(prompt) or (answer,)
    )
    answers_of(model, pair, 2, 3, *LOGITS)
    assert asked == [pair.clean_prompt, pair.corrupted_prompt]


def test_a_metric_of_two_answers_is_refused_for_one(model, pair):
    for options in ({"target": None, "foil": 1}, {"target": 0, "foil": None}):
        with pytest.raises(EffectError, match="prob_diff sets two answers"):
            settle(model, pair, ["prob", "prob_diff"], **options, logits=LOGITS)
    answers = answers_of(model, pair, 1, 1, *LOGITS)
    assert answers.notes and answers.bind("prob", CLEAN[0])(CLEAN) == pytest.approx(answers.target.clean_prob)
    with pytest.raises(EffectError):
        answers.bind("logit_diff", CLEAN[0])


def test_auto_is_the_probability_unless_the_answer_stays(model, pair):
    found = settle(model, pair, "auto", None, None, LOGITS)
    assert [m.name for m in found.metrics] == ["prob"] and found.notes == ()
    stays = (CLEAN, CLEAN + np.array([0.0, 0.0, 1.0, 0.0]))
    found = settle(model, pair, ["auto", "logit_diff"], 1, 2, stays)
    assert [m.name for m in found.metrics] == ["kl", "logit_diff"]
    assert len(found.notes) == 1 and "same answer" in found.notes[0]
    assert settle(model, pair, "kl", None, None, stays).foil is None  # nothing to set against the target


def test_values_are_means_over_samples_and_rows_are_measured_alone(model, pair):
    found = settle(model, pair, ["logit", "prob"], 1, 2, LOGITS)
    assert found.clean["logit"] == 4.0 and found.corrupted["logit"] == 0.0
    assert found(CORRUPTED).shape == (2, 2)
    np.testing.assert_allclose(found(CORRUPTED)[1], metrics.softmax(CORRUPTED)[:, 1])


def test_a_gap_that_means_nothing_is_refused(model, pair):
    with pytest.raises(EffectError, match="hardly moves"):
        settle(model, pair, "logit", 2, None, LOGITS)  # 1.0 in every run
    with pytest.raises(InputError, match="no metric"):
        settle(model, pair, "porb", None, None, LOGITS)


def test_a_metric_of_every_position_sees_them_and_others_the_last(model, pair):
    whole = tuple(np.stack([x * 0.5, x], axis=1) for x in LOGITS)  # [rows, 2 positions, V]

    @metrics.every_position
    def first(logits):
        return logits[:, 0, 1]

    found = settle(model, pair, [first, "logit"], 1, None, whole)
    assert found.clean == {"first": 2.0, "logit": 4.0}
    np.testing.assert_array_equal(found(whole[0]), [[2.0], [4.0]])


def test_one_answer_says_when_it_is_not_the_models_own(model, pair):
    own = one_answer(model, None, pair.clean_prompt, CLEAN)
    other = one_answer(model, 2, pair.clean_prompt, CLEAN)
    assert own.token == 1 and own.notes == [] and "own answer" in other.notes[0]
    assert own(CORRUPTED).shape == (1, 2) and own.answer(0.9, 0.1).corrupted_prob == 0.1
    np.testing.assert_allclose(other(CLEAN)[0], metrics.softmax(CLEAN)[:, 2])
