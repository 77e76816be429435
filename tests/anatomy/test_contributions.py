"""Contributions: the mixers, the modules of the MLP, and whatever else a layer adds to the stream."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import models
import pytest

from mlxtrace.anatomy.probe import probe


class Layer(nn.Module):
    """A layer of llama, with a second module that may be anything."""

    def __init__(self, layer):
        super().__init__()
        self.use_sliding = False
        self.self_attn, self.mlp = layer.self_attn, layer.mlp
        self.before, self.after = layer.input_layernorm, layer.post_attention_layernorm
        self.side = nn.Linear(64, 64, bias=False)


class Beside(Layer):
    def __call__(self, x, mask=None, cache=None):
        x = x + self.self_attn(self.before(x), mask, cache)
        y = self.after(x)
        return x + 0.5 * (self.mlp(y) + self.side(y))


class Behind(Layer):
    def __call__(self, x, mask=None, cache=None):
        x = x + self.self_attn(self.before(x), mask, cache)
        x = x + self.mlp(self.after(x))
        return x + self.side(x)


class Unequal(Layer):
    def __call__(self, x, mask=None, cache=None):
        x = x + self.self_attn(self.before(x), mask, cache)
        y = self.after(x)
        return x + self.mlp(y) + 0.5 * self.side(y)


class Squared(Layer):
    def __call__(self, x, mask=None, cache=None):
        x = x + self.self_attn(self.before(x), mask, cache)
        return mx.tanh(x + self.mlp(self.after(x)))


class Mixing(Layer):
    """What runs beside the mixer mixes tokens as well."""

    def __call__(self, x, mask=None, cache=None):
        y = self.before(x)
        return self.then(x + self.self_attn(y, mask, cache) + self.other(y))

    def then(self, x):
        return x + self.mlp(self.after(x))


class Average(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = mx.random.normal((64, 64)) / 8

    def __call__(self, x):
        return mx.cumsum(x, axis=1) @ self.weight


@pytest.mark.parametrize(
    ("kind", "mlps", "rest", "plain"),
    [
        (Beside, ["mlp", "side"], [], True),
        (Behind, ["mlp"], ["side"], True),
        (Squared, ["mlp"], [], False),
    ],
)
def test_what_a_layer_writes(kind, mlps, rest, plain):
    layer = found(kind)
    assert tails(layer, layer.mixers) == ["self_attn"]
    assert (tails(layer, layer.mlps), tails(layer, layer.rest), layer.plain) == (mlps, rest, plain)


def test_modules_that_are_not_simply_added_up_are_no_sum():
    layer = found(Unequal)
    assert tails(layer, layer.mlps) == ["mlp", "side"] and not layer.summed
    assert "not simply added up" in layer.no_mlp


def test_a_second_mixer_is_one_whatever_its_name():
    mx.random.seed(5)
    layer = found(Mixing, other=Average)
    assert sorted(tails(layer, layer.mixers)) == ["other", "self_attn"]
    assert layer.added is None and "2 mixers" in layer.no_mid


def found(kind, **more):
    net = models.make("llama")
    mx.random.seed(5)
    net.model.layers = [kind(layer) for layer in net.model.layers]
    for layer in net.model.layers:
        for name, make in more.items():
            setattr(layer, name, make())
    mx.eval(net.parameters())
    return probe(net).layers[1]


def tails(layer, paths):
    return [path.removeprefix(layer.path + ".") for path in paths]
