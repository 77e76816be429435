"""One layer from the record of a pass: called as a module, or by its parts."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import models
import pytest

from mlxtrace import errors
from mlxtrace.anatomy.layers import called_layer, uncalled_layer
from mlxtrace.anatomy.recording import module_paths, record

TOKENS = mx.array([[3, 17, 5, 90, 41, 8]])


class ByParts(nn.Module):
    """A stack that calls the parts of its layers, never the layers."""

    def __init__(self, net):
        super().__init__()
        self.model = net.model

    @property
    def layers(self):
        return self.model.layers

    def __call__(self, tokens, cache=None):
        x = self.model.embed_tokens(tokens)
        for layer in self.layers:
            x = x + layer.self_attn(layer.input_layernorm(x), "causal", None)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return self.model.embed_tokens.as_linear(self.model.norm(x))


def test_the_parts_of_a_layer_that_is_never_called():
    net = ByParts(models.make("llama"))
    layer = uncalled_layer(record(net, TOKENS), "model.layers.1", 0, TOKENS, module_paths(net))
    assert (layer.slot, layer.chained, layer.plain) == (None, False, None)
    assert layer.mlps == layer.summed == ("model.layers.1.mlp",) and layer.mixers == (
        "model.layers.1.self_attn",
    )
    assert layer.down_proj == "model.layers.1.mlp.down_proj" and "never the layer itself" in layer.no_mid


def called(name, slot=0, given=None):
    net = models.make(name)
    calls = record(net, TOKENS)
    call = next(c for c in calls if c.path == "model.layers.1")
    return call, called_layer(
        calls, call, slot, TOKENS, module_paths(net), call.array() if given is None else given
    )


def test_a_layer_that_is_called():
    call, layer = called("llama")
    assert (layer.path, layer.visit, layer.slot, layer.time_axis) == ("model.layers.1", 0, 0, 1)
    assert layer.chained and layer.plain and layer.attention_heads == (4, 2)
    assert layer.acts == ("model.layers.1.self_attn.o_proj", "model.layers.1.mlp")
    assert not called("llama", given=call.array() + 1)[1].chained


def test_a_layer_with_experts_has_a_router():
    assert called("mixtral")[1].router == "model.layers.1.block_sparse_moe.gate"


def test_a_layer_without_a_hidden_state_is_refused():
    with pytest.raises(errors.LoadError, match="no hidden state"):
        called("llama", slot=None)
