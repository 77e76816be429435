"""Wiring: which parts of a layer read which, and with which factor they enter its output."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import models
import pytest

from mlxtrace.anatomy.recording import module_paths, record
from mlxtrace.anatomy.wiring import OUT, STREAM, Wiring, has_matrices, number, rounding

TOKENS = mx.array([[3, 17, 5, 90, 41, 8]])


def wiring_of(net, known=("self_attn", "mlp"), layer=1):
    calls, paths = record(net, TOKENS), module_paths(net)
    path = f"model.layers.{layer}"
    named = {c.path.removeprefix(path + "."): c for c in calls if c.path.startswith(path + ".")}
    whole = next(c for c in calls if c.path == path)
    return Wiring(calls, whole, 0, [named[k] for k in known], paths), {k: c.index for k, c in named.items()}


def test_who_reads_whom_in_a_plain_layer():
    wiring, at = wiring_of(models.make("llama"))
    attn, mlp = at["self_attn"], at["mlp"]
    assert wiring.measured
    assert wiring.read_by(OUT) == {STREAM, attn, mlp}
    assert wiring.readers(attn) == {at["post_attention_layernorm"], OUT}
    assert wiring.sources(mlp) == {STREAM, attn}, "through the norm"
    assert wiring.bare(at["input_layernorm"]) and not wiring.bare(attn) and not wiring.bare(STREAM)
    assert attn in wiring.above(mlp) and mlp not in wiring.above(attn)
    assert [wiring.factor(i) for i in (STREAM, attn, mlp)] == pytest.approx([1, 1, 1], rel=1e-4)


def test_factors_are_measured():
    wiring, at = wiring_of(models.make("granite"))
    assert wiring.factor(at["mlp"]) == pytest.approx(0.4, rel=1e-4)


class Noisy(nn.Module):
    """A layer that does something else each time."""

    def __init__(self, layer):
        super().__init__()
        self.use_sliding = False
        self.self_attn, self.mlp = layer.self_attn, layer.mlp

    def __call__(self, x, mask=None, cache=None):
        x = x + self.self_attn(x, mask, cache)
        return x + self.mlp(x) + mx.random.normal(x.shape)


def test_a_layer_that_cannot_be_run_again_is_not_measured():
    net = models.make("llama")
    net.model.layers[1] = Noisy(net.model.layers[1])
    assert not wiring_of(net)[0].measured


def test_matrices_rounding_and_numbers():
    assert has_matrices(nn.Linear(2, 2)) and not has_matrices(nn.RMSNorm(2)) and not has_matrices(nn.ReLU())
    assert rounding(mx.float32) < rounding(mx.float16) < rounding(mx.bfloat16)
    assert number(mx.array(0.5, mx.bfloat16)) == 0.5
