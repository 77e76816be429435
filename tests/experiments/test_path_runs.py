"""Paths, edges and circuits of whole answers: the sum of what they are for each token, run behind those before it."""

from __future__ import annotations

import warnings

import models
import numpy as np
import pytest

from mlxtrace import GaussianNoise, InterpretableModel, prompts
from mlxtrace.errors import InputError
from mlxtrace.experiments.path_runs import ALL

CLEAN, CORRUPTED = [3, 17, 5, 90, 41, 8], [3, 17, 66, 12, 41, 8]
TARGET, FOIL = [20, 31], [44, 9, 2]
QUIET = {"progress": False}


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request):
    return InterpretableModel(models.make(request.param, seed=1, **LAYERS[request.param]))


LAYERS = {"llama": {"num_hidden_layers": 2}, "gpt2": {"n_layer": 2}}


def by_token(run, answer):
    """What a run of one token measures, added up over the tokens of an answer."""
    return sum(run(CLEAN + answer[:i], CORRUPTED + answer[:i], [token]) for i, token in enumerate(answer))


def check(run):
    """`run(clean, corrupted, metric=, target=, foil=)` of whole answers is that of their tokens one by one."""
    target, foil = (
        by_token(lambda c, k, t: run(c, k, metric="logprob", target=t), a) for a in (TARGET, FOIL)
    )
    whole = run(CLEAN, CORRUPTED, metric="logprob", target=TARGET)
    against = run(CLEAN, CORRUPTED, metric="logit_diff", target=TARGET, foil=FOIL)
    scale = np.abs([target, foil]).max()
    assert scale > 1e-3
    np.testing.assert_allclose(whole, target, atol=2e-5 * scale)
    np.testing.assert_allclose(against, target - foil, atol=4e-5 * scale)


@pytest.mark.parametrize("together", ["frozen", "live"])
def test_paths(model, together):
    ends = {"senders": ["embed", "m0", "a0"], "receivers": ["q", "k", "v", "mlp"]}
    if together == "frozen":
        ends["receivers"] = [*ends["receivers"], "logits"]

    def run(clean, corrupted, **asked):
        return model.path_patching(clean, corrupted, **ends, together=together, **asked, **QUIET).effect

    check(run)


@pytest.mark.parametrize("method", ["exact", "eap", "eap-ig"])
def test_edges(model, method):
    check(lambda clean, corrupted, **asked: model.edges(clean, corrupted, method, **asked, **QUIET).scores)


def test_circuits(model):
    scores = model.edges(CLEAN, CORRUPTED, "eap", metric="logit_diff", target=TARGET, foil=FOIL, **QUIET)
    kept = np.random.RandomState(0).rand(3, *scores.upstream.shape) < 0.5

    def run(clean, corrupted, **asked):
        return model.edges(clean, corrupted, "eap", **asked, **QUIET)._runs(kept)[0]

    check(run)
    whole, none = scores.circuit(scores.n).faithfulness(), scores.circuit(0).faithfulness()
    assert whole == pytest.approx(1, abs=1e-4) and none == pytest.approx(0, abs=1e-4)
    pair = prompts.Pair(CLEAN, CORRUPTED, tuple(TARGET), tuple(FOIL))
    found = scores.circuit(20)
    assert float(found.faithfulness([pair])) == pytest.approx(float(found.faithfulness()), abs=1e-5)


def test_noise_and_sets(model):
    noise = GaussianNoise(subject=range(2, 4), level=0.3, samples=2)
    asked = {"senders": "embed", "receivers": "mlp", **QUIET}
    found = model.path_patching(CLEAN, noise, metric="logprob", target=TARGET, **asked)
    tokens = [
        model.path_patching(CLEAN + TARGET[:i], noise, metric="logprob", target=TARGET[i], **asked).effect
        for i in range(2)
    ]
    np.testing.assert_allclose(found.effect, sum(tokens), atol=1e-4)
    pairs = [prompts.Pair(CLEAN, CORRUPTED, tuple(TARGET)), prompts.Pair(CLEAN, CORRUPTED, 7, id="one")]
    many = model.path_patching(pairs, metric="logprob", **asked)
    for pair, single in zip(pairs, many.singles, strict=True):
        alone = model.path_patching(pair, metric="logprob", **asked)
        np.testing.assert_allclose(single.raw, alone.raw, atol=1e-5)


def test_positions_that_are_named_are_the_prompts(model):
    ends = {"senders": "embed", "receivers": ["k", "v"], "metric": "logprob", "target": TARGET, **QUIET}
    every = model.path_patching(CLEAN, CORRUPTED, positions=list(range(6)), **ends)
    assert ALL not in every.notes and np.abs(every.effect).max() > 1e-3
    last = model.path_patching(
        [*CLEAN, TARGET[0]],
        [*CORRUPTED, TARGET[0]],
        positions=list(range(6)),
        **{**ends, "target": TARGET[1]},
    )
    first = model.path_patching(CLEAN, CORRUPTED, positions=list(range(6)), **{**ends, "target": TARGET[0]})
    np.testing.assert_allclose(every.effect, first.effect + last.effect, atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what is said of the numbers is no warning
        assert ALL in model.path_patching(CLEAN, CORRUPTED, **ends).notes
    edges = model.edges(CLEAN, CORRUPTED, "eap", metric="logprob", target=TARGET, **QUIET)
    assert ALL in edges.notes


def test_several_right_answers(model):
    """Their probabilities are added; between two runs gradients of runs of their own would not."""
    answers = [TARGET, [50, 7]]
    asked = {"senders": "embed", "receivers": ["mlp", "logits"], "metric": "logprob", **QUIET}
    each = [model.path_patching(CLEAN, CORRUPTED, target=answer, **asked).raw for answer in answers]
    both = model.path_patching(CLEAN, CORRUPTED, answers=answers, **asked)
    np.testing.assert_allclose(both.raw, np.logaddexp(*each), atol=1e-5)
    model.edges(CLEAN, CORRUPTED, "eap", metric="logprob", answers=answers, **QUIET)
    with pytest.raises(InputError, match="runs of their own"):
        model.edges(CLEAN, CORRUPTED, "eap-ig", metric="logprob", answers=answers, **QUIET)
