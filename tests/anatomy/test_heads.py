"""Heads: whether slices of what a mixer projects are its heads, measured."""

from __future__ import annotations

import mlx.core as mx
import models
import more_models
import pytest

from mlxtrace import InterpretableModel, errors
from mlxtrace.anatomy.heads import _only_the_last_moved
from mlxtrace.anatomy.probe import probe


def test_heads_that_are_mixed_before_the_projection_are_refused():
    model = InterpretableModel(more_models.make("deepseek_v41"))
    with pytest.raises(errors.UnsupportedError, match="mixes the heads"):
        model.resolver.site("head", 0)
    assert not any(name.endswith(".head") for name in model.resolver.sites())
    assert InterpretableModel(models.make("llama")).resolver.layer(0).split == 4


def test_heads_in_another_order_are_not_heads():
    net = models.make("llama")
    for layer in net.model.layers:
        layer.self_attn.__class__ = Turned
    assert {layer.split for layer in probe(net).layers} == {0}


class Turned(type(models.make("llama").model.layers[0].self_attn)):
    """Attention that turns its heads round before it projects them."""

    def __call__(self, x, mask=None, cache=None):
        inner = self.o_proj
        try:
            self.o_proj = lambda y: inner(y[..., ::-1])
            return super().__call__(x, mask, cache)
        finally:
            self.o_proj = inner


def test_only_the_last_slice_may_move():
    x = mx.zeros((1, 2, 8))
    last = mx.where(mx.arange(8) >= 6, 1.0, x)
    assert _only_the_last_moved(x, last, 4)
    assert not _only_the_last_moved(x, x, 4), "nothing moved"
    assert not _only_the_last_moved(x, last + mx.where(mx.arange(8) == 0, 1.0, 0.0), 4)
    assert not _only_the_last_moved(x, last, 3), "the width is no multiple of the heads"
