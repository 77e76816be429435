"""Watching module calls: calls and attention are routed, classes come back, arguments and outputs are replaced."""

from __future__ import annotations

from collections import namedtuple

import mlx.core as mx
import numpy as np
import pytest
from faulty_models import Model

from mlxtrace.laws import module_calls

TOKENS = mx.array([[3, 17, 5, 40]])


def test_calls_are_routed_and_classes_come_back():
    net, seen = Model(), []
    classes = [type(m) for m in net.modules()]

    def call(path, forward, args, kwargs):
        seen.append((path, args[0].shape))
        return forward(*args, **kwargs)

    plain = net(TOKENS)
    modules = {"a": net.layers[0].mlp, "b": net.layers[2], "again": net.layers[2]}
    with module_calls.watched(modules, call):
        assert mx.array_equal(module_calls.run(net, TOKENS), plain)
        assert isinstance(net.layers[2], classes[0].__mro__[-1])
    assert [path for path, _ in seen] == ["a", "again"] and seen[0][1] == (1, 4, 32)
    assert [type(m) for m in net.modules()] == classes


def test_classes_come_back_after_an_error():
    net = Model()
    attention, kind = mx.fast.scaled_dot_product_attention, type(net.layers[0])

    def call(path, forward, args, kwargs):
        raise ZeroDivisionError

    with (
        pytest.raises(ZeroDivisionError),
        module_calls.watched({"x": net.layers[0]}, call, lambda *_, **__: None),
    ):
        net(TOKENS)
    assert type(net.layers[0]) is kind and mx.fast.scaled_dot_product_attention is attention


def test_attention_is_stood_in_for():
    net, seen = Model(), []

    def attend(plain, q, k, v, **options):
        seen.append(q.shape)
        return plain(q, k, v, **options)

    with module_calls.watched({}, lambda *_: None, attend):
        net(TOKENS)
    assert seen == [(1, 4, 4, 8)] * 3


def test_arguments_and_outputs():
    x, y = mx.array([1.0]), mx.array([2.0])
    assert (
        module_calls.first_argument((None, x), {}) == 1 and module_calls.first_argument((), {"h": x}) == "h"
    )
    assert module_calls.with_argument((None, x), {}, 1, y)[0][1] is y
    assert module_calls.with_argument((x,), {"h": x}, "h", y)[1]["h"] is y
    assert module_calls.argument((x,), {"h": y}, 0) is x and module_calls.argument((x,), {"h": y}, "h") is y
    Pair = namedtuple("Pair", "note array")
    for out in (x, (None, x), [None, x], Pair("n", x)):
        assert module_calls.first_array(out) is x
        replaced = module_calls.with_first_array(out, y)
        assert type(replaced) is type(out) and module_calls.first_array(replaced) is y


@pytest.mark.parametrize("mask", [None, "causal", "bool", "added"])
def test_attention_weights_weigh_as_attention_does(mask):
    random = np.random.RandomState(0)
    q, k, v = (mx.array(random.randn(1, heads, 5, 8).astype(np.float32)) for heads in (4, 2, 2))
    given = {
        None: None,
        "causal": "causal",
        "bool": mx.array(np.tri(5, dtype=bool)),
        "added": mx.array(np.where(np.tri(5), 0.5, -1e9).astype(np.float32)),
    }[mask]
    weights = module_calls.attention_weights(q, k, scale=0.3, mask=given)
    assert np.allclose(weights.sum(-1), 1) and weights.dtype == np.float64
    values = np.repeat(np.array(v), 2, axis=1)
    right = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.3, mask=given)
    np.testing.assert_allclose(np.einsum("bhqk,bhkd->bhqd", weights, values), np.array(right), atol=1e-5)


def test_a_sink_takes_its_share():
    q = k = mx.zeros((1, 2, 3, 4))
    weights = module_calls.attention_weights(q, k, scale=1.0, sinks=mx.array([0.0, -1e9]))
    assert weights.sum(-1)[0, :, 0].round(6).tolist() == [0.75, 1.0]
