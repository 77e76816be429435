"""What a layer is made of: found by what modules do where their names say nothing."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import models
import pytest

from mlxtrace.anatomy import parts
from mlxtrace.anatomy.recording import module_paths, record

TOKENS = mx.array([[3, 17, 5, 90, 41, 8]])
LAYER = "model.layers.1"


def recorded(net):
    calls = record(net, TOKENS)
    layer = next(c for c in calls if c.path == LAYER)
    return calls, calls[layer.index + 1 : layer.end], module_paths(net)


def call_of(inside, name):
    return next(c for c in inside if c.path == f"{LAYER}.{name}")


@pytest.mark.parametrize(
    ("name", "expected"), [("self_attn", True), ("mlp", False), ("input_layernorm", False)]
)
def test_what_mixes_tokens_is_seen_by_changing_one(name, expected):
    _, inside, _ = recorded(models.make("llama"))
    assert parts.mixes(call_of(inside, name), 6) == expected


class Renamed(nn.Module):
    """A layer of llama whose parts have names that say nothing."""

    def __init__(self, layer):
        super().__init__()
        self.use_sliding = False
        self.one, self.two = layer.self_attn, layer.mlp
        self.a, self.b = layer.input_layernorm, layer.post_attention_layernorm

    def __call__(self, x, mask=None, cache=None):
        x = x + self.one(self.a(x), mask, cache)
        return x + self.two(self.b(x))


def test_parts_without_known_names():
    net = models.make("llama")
    net.model.layers = [Renamed(layer) for layer in net.model.layers]
    _, inside, paths = recorded(net)
    mixers, mlps = parts.mixers_and_mlps(inside, LAYER, 6, paths)
    assert [c.path for c in mixers] == [f"{LAYER}.one"] and [c.path for c in mlps] == [f"{LAYER}.two"]


def test_the_last_projection_gives_the_parts_own_output():
    calls, inside, paths = recorded(models.make("llama"))
    assert parts.projection(calls, call_of(inside, "self_attn"), paths) == f"{LAYER}.self_attn.o_proj"
    assert parts.projection(calls, call_of(inside, "mlp"), paths) == f"{LAYER}.mlp.down_proj"
    assert parts.projection(calls, call_of(inside, "mlp.down_proj"), paths) is None
    experts, inside, paths = recorded(models.make("mixtral"))
    assert parts.projection(experts, call_of(inside, "block_sparse_moe"), paths) is None


def test_reads_are_the_maps_of_the_mixers_own_input():
    calls, inside, paths = recorded(models.make("llama"))
    found = parts.reads(calls, call_of(inside, "self_attn"), paths)
    assert found == tuple(f"{LAYER}.self_attn.{name}_proj" for name in "qkv")


def test_an_mlp_that_mixes_tokens_is_not_run_token_by_token():
    _, inside, _ = recorded(models.make("llama"))
    attn, mlp = call_of(inside, "self_attn"), call_of(inside, "mlp")
    assert parts.acts("out", [attn], [mlp], 6) == ("out", mlp.path)
    assert parts.acts("out", [attn], [mlp, attn], 6) == ()
    assert parts.acts("out", [attn, mlp], [attn], 6) == (), "before the last mixing"


def test_the_only_attention_call():
    calls, inside, _ = recorded(models.make("llama"))
    attn = call_of(inside, "self_attn")
    assert parts.attention_call(calls, [attn]) == (attn, "")
    assert "no mixer" in parts.attention_call(calls, [])[1]
    assert "no call of mlx's" in parts.attention_call(calls, [call_of(inside, "mlp")])[1]
    assert "2 mixers and makes 2 calls" in parts.attention_call(calls, [attn, attn])[1]
    attn.gathered = True
    assert "gathers keys" in parts.attention_call(calls, [attn])[1]


def test_what_is_a_vector_per_token():
    x = mx.zeros((1, 6, 4))
    assert parts.is_hidden(x, 6) and not parts.is_hidden(x, 5) and not parts.is_hidden(x[0], 6)
    assert not parts.is_hidden(x.astype(mx.int32), 6) and not parts.is_hidden(None, 6)
    assert parts.is_hidden(mx.zeros((1, 6, 2, 4)), 6, 4) and not parts.is_hidden(mx.zeros((1, 6, 2, 4)), 6, 3)
