"""The longest prompt: tables of positions, as modules or bare arrays, and models without one."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import models
import pytest

from mlxtrace import InterpretableModel, errors
from mlxtrace.anatomy.probe import probe


class Bare(nn.Module):
    """A GPT-2 whose positions are looked up in a bare array, without a module call."""

    def __init__(self, net):
        super().__init__()
        self.inner = net
        self.places = mx.random.normal((16, 48))

    @property
    def layers(self):
        return self.inner.layers

    def __call__(self, ids, cache=None):
        x = self.inner.model.wte(ids) + self.places[mx.arange(ids.shape[1])]
        for layer in self.inner.layers:
            x = layer(x, "causal")
        return self.inner.model.wte.as_linear(self.inner.model.ln_f(x))


def test_a_table_of_positions_that_is_no_module():
    model = InterpretableModel(Bare(models.make("gpt2")))
    assert model.resolver.structure.max_length == 16
    with pytest.raises(errors.TokenError, match="16 positions"):
        model.trace([1] * 17)


def test_rotary_models_have_no_such_limit(llama):
    assert llama.resolver.structure.max_length is None


def test_a_table_that_is_a_module():
    assert probe(models.make("gpt2")).max_length == 128


def test_the_model_is_left_as_it_was():
    net = Bare(models.make("gpt2"))
    before = mx.array(net.places)
    probe(net)
    assert mx.array_equal(net.places, before)


def test_an_array_that_holds_no_positions_is_no_limit():
    """It has the shape of a table, and is never read."""
    net = Bare(models.make("gpt2"))
    net.other = mx.ones((12, 48))
    assert probe(net).max_length == 16
