"""Queries and keys through the softmax that they would give, against softmaxes taken anew one by one."""

from __future__ import annotations

import numpy as np
import pytest

from mlxtrace.engine.attention_fix import keys_replaced, queries_replaced, softmax


def drawn(scale: float, sinks: bool):
    random = np.random.RandomState(0)
    shape = (2, 3, 6, 6)
    scores, new, gradient = (random.randn(*shape) for _ in range(3))
    masked = np.where(np.tril(np.ones((6, 6), bool)), 0, -np.inf)
    return scale * scores + masked, scale * new + masked, gradient, scale * random.randn(3) if sinks else None


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("scale", [1, 60, 500])  # a soft pattern, and hard ones: weights of 1, and of nothing
def test_each_key_does_what_its_own_softmax_does(scale, sinks):
    scores, new, gradient, sink = drawn(scale, sinks)
    found = keys_replaced(scores, new, gradient, sink)
    for key in range(scores.shape[-1]):
        other = scores.copy()
        other[..., key] = new[..., key]
        right = (gradient * (softmax(other, sink) - softmax(scores, sink))).sum((2, 3))
        np.testing.assert_allclose(found[:, key], right, atol=1e-12)


@pytest.mark.parametrize("sinks", [False, True])
def test_each_query_does_what_its_own_softmax_does(sinks):
    scores, new, gradient, sink = drawn(3, sinks)
    right = (gradient * (softmax(new, sink) - softmax(scores, sink))).sum(-1).swapaxes(1, 2)
    np.testing.assert_allclose(queries_replaced(scores, new, gradient, sink), right, atol=1e-12)


def test_a_saturated_key_is_seen_where_the_gradient_is_zero():
    scores = np.array([[[[200.0, 0.0]]]])
    new = np.array([[[[-200.0, 0.0]]]])
    gradient = np.array([[[[1.0, 0.0]]]])
    weights = softmax(scores)[0, 0, 0]
    assert weights[0] * (1 - weights[0]) * 400 < 1e-80  # what a straight line along the score says
    np.testing.assert_allclose(keys_replaced(scores, new, gradient)[0, :, 0], [-1, 0], atol=1e-12)


def test_what_does_not_change_does_nothing():
    scores, _, gradient, sink = drawn(500, True)
    assert not keys_replaced(scores, scores, gradient, sink).any()
    assert not queries_replaced(scores, scores, gradient, sink).any()
