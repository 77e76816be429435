"""The answer that is followed on one prompt: traces and noising windows of whole answers, against passes by hand."""

import mlx.core as mx
import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel
from mlxtrace.engine.runs import Run
from mlxtrace.experiments.followed_answers import Followed
from mlxtrace.metrics import log_softmax

PROMPT, ANSWER = [3, 17, 40, 41, 52, 60], (5, 6, 7)


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(models.make("llama"))


def forced(model, answer):
    """The log-probability of an answer behind the prompt, a pass for each token."""
    rows = [np.array(model.net(mx.array([[*PROMPT, *answer[:i]]]))[0, -1]) for i in range(len(answer))]
    return float(sum(log_softmax(row)[token] for row, token in zip(rows, answer, strict=True)))


def test_its_probability_is_that_of_all_its_tokens(model):
    followed = Followed.of_prompt(model, model.prompt(PROMPT), list(ANSWER))
    logits = followed.logits(Run(tuple(PROMPT)))
    measured = followed.measured(logits)
    assert followed.value(measured, logits) == pytest.approx(np.exp(forced(model, ANSWER)), rel=1e-4)
    assert measured.answer(0.5, 0.25).tokens == ANSWER and measured.answer(0.5, 0.25).corrupted_prob == 0.25
    assert any("own answer is" in note for note in measured.notes)


def test_a_token_is_followed_as_ever(model):
    plain, listed = (Followed.of_prompt(model, model.prompt(PROMPT), given) for given in (5, [5]))
    logits = plain.logits(Run(tuple(PROMPT)))
    assert plain.asked is None and listed.asked is None and logits.shape == (1, model.vocab_size)
    assert plain.measured(logits)(logits) == listed.measured(logits)(logits)


def test_where_the_model_parts_from_the_answer_is_said(model):
    ids = list(PROMPT)
    for _ in range(2):
        ids.append(int(np.array(model.net(mx.array([ids]))[0, -1]).argmax()))
    own = ids[len(PROMPT) :]
    other = [*own[:1], (own[1] + 1) % model.vocab_size]

    def notes(answer):
        followed = Followed.of_prompt(model, model.prompt(PROMPT), answer)
        return followed.measured(followed.logits(Run(tuple(PROMPT)))).notes

    assert not any("the model" in note for note in notes(own))
    assert any(f'behind "<{own[0]}>" the model says "<{own[1]}>"' in note for note in notes(other))


@pytest.mark.parametrize("answers", [[list(ANSWER), [9, 10]], [list(ANSWER), 20]], ids=str)
def test_a_noising_window_follows_several_answers(model, answers):
    """With no noise every score is the clean one; with noise each answer's score adds to that of all."""
    asked = {"level": 1.0, "samples": 2, "window": 1}
    still = model.noising_window(PROMPT, answers=answers, **{**asked, "level": 0.0})
    right = sum(np.exp(forced(model, a if isinstance(a, list) else [a])) for a in answers)
    np.testing.assert_allclose([*still.scores, still.clean, still.noised], right, rtol=1e-4)
    both = model.noising_window(PROMPT, answers=answers, **asked)
    each = [model.noising_window(PROMPT, target=answer, **asked) for answer in answers]
    np.testing.assert_allclose(both.raw, sum(one.raw for one in each), rtol=1e-4)
    assert abs(both.noised / right - 1) > 1e-3


def test_noise_reaches_the_prompt_alone(model):
    """The first token's score is that of the token by itself: what is behind the prompt changes nothing before it."""
    asked = {"level": 1.0, "samples": 2, "window": 1}
    whole = model.noising_window(PROMPT, target=list(ANSWER), **asked)
    first = model.noising_window(PROMPT, target=ANSWER[0], **asked)
    assert (whole.raw < first.raw).all() and first.answer.tokens == ANSWER[:1]


def test_a_trace_of_no_noise_is_the_clean_run(model):
    trace = model.causal_trace(
        PROMPT, [2], noise=0.0, samples=2, target=list(ANSWER), positions=[2], progress=False
    )
    right = np.exp(forced(model, ANSWER))
    np.testing.assert_allclose([trace.high_score, trace.low_score, *trace.raw[0].ravel()], right, rtol=1e-4)


def test_a_quantized_copy_is_held_to_the_same_answer(model):
    found = model.compare_bits(PROMPT, [2], target=list(ANSWER), positions="last", samples=1, progress=False)
    assert found.first.answer.tokens == found.second.answer.tokens == ANSWER
    both = model.compare_bits(PROMPT, [2], answers=[5, [6, 7]], positions="last", samples=1, progress=False)
    assert both.second.answer.all == ((5,), (6, 7))
