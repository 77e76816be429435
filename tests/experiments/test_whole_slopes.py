"""What is differentiated of whole answers is what is measured of them: against finite differences, on random logits."""

from __future__ import annotations

import mlx.core as mx
import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel
from mlxtrace.experiments.asked_answers import Asked
from mlxtrace.experiments.pair_sets import read_pairs
from mlxtrace.experiments.whole_answers import settle_whole
from mlxtrace.experiments.whole_slopes import slope, slope_of_context

VOCAB, ROWS = 160, 2
ONE = Asked(((20, 31, 7),), (44, 9))
ANY = Asked(((20, 31, 7), (50,), (51, 3)), (44, 9))
METRICS = ["logprob", "prob", "logit_diff", "prob_diff", "kl"]


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(models.make("gpt2", n_layer=1))


def logits_of(asked, seed):
    read = 1 + max(map(len, asked.contexts))
    return np.random.RandomState(seed).randn(len(asked.contexts), ROWS, read, VOCAB).astype(np.float32)


def settled(model, asked, name):
    pair = read_pairs(model, [1, 2, 3], [1, 4, 3]).pairs[0]
    runs = logits_of(asked, 0), logits_of(asked, 1)
    return settle_whole(model, pair, name, None, None, runs, False, asked)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("asked", [ONE, ANY], ids=["one", "any"])
def test_slopes_are_what_a_small_change_does(model, asked, name):
    measured, base = settled(model, asked, name), logits_of(asked, 1)
    change, step = logits_of(asked, 2), 1e-3
    ends = [measured.of((base + sign * step * change).astype(np.float64))[0] for sign in (1, -1)]
    expected = (ends[0] - ends[1]) / (2 * step)
    gradient = slope(measured, 0)

    def total(x):
        return gradient(x).sum()

    flat = mx.array(base.reshape(-1, *base.shape[2:]))
    values, found = mx.value_and_grad(total)(flat)
    products = (np.array(found).reshape(base.shape) * change).sum((0, 2, 3))
    np.testing.assert_allclose(products, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())
    assert float(values) == pytest.approx(measured.of(base)[0].sum(), rel=1e-4)
    apart = np.zeros(ROWS)
    for i in range(len(asked.contexts)):
        one = slope_of_context(measured, 0, i, base)
        own = np.array(mx.grad(lambda x, f=one: f(x).sum())(mx.array(base[i])))
        apart += (own * change[i]).sum((1, 2))
    np.testing.assert_allclose(apart, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


def test_another_metric_of_the_same_answers_and_one_without_a_gradient(model):
    base, measured = logits_of(ONE, 1), settled(model, ONE, "prob")
    rows = mx.array(base.reshape(-1, *base.shape[2:]))
    other = np.array(slope(measured, 0, "logprob")(rows))[:ROWS]
    np.testing.assert_allclose(np.exp(other), measured.of(base)[0], rtol=1e-4)
    rank = settled(model, ONE, "rank")
    assert slope(rank, 0) is None and slope_of_context(rank, 0, 0, base) is None


def test_plain_answers_have_gradients_of_their_own(model):
    pair = read_pairs(model, [1, 2, 3], [1, 4, 3]).pairs[0]
    plain = (logits_of(ONE, 0)[0][:1, 0], logits_of(ONE, 1)[0][:1, 0])
    measured = settle_whole(model, pair, "logprob", 5, None, plain, False)
    assert slope(measured, 0) is measured.metrics[0].gradient
    assert slope_of_context(measured, 0, 0, plain[1]) is measured.metrics[0].gradient
