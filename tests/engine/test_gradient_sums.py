"""Where gradients are summed over ranks: after the maps whose gradients differ between them, by kind of mixer."""

from __future__ import annotations

import mlx.core as mx
import pytest
from sharded_models import make

from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.anatomy.shards import Part, Share
from mlxtrace.engine import gradient_sums
from mlxtrace.engine.gradient_check import Check
from mlxtrace.engine.gradient_pass import Way


@pytest.mark.parametrize(("factor", "names"), [(1.0, []), (0.5, ["kv_a_proj_with_mqa", "q_a_proj"])])
def test_maps_with_other_gradients_on_another_rank_are_summed(factor, names, monkeypatch):
    resolver = ModuleResolver(make("deepseek_v3"))
    assert resolver.gradient_sums == ()
    monkeypatch.setattr(gradient_sums, "share_of", lambda module: Share(attention={False: {}}))
    monkeypatch.setattr(Part, "whole", lambda self, x: mx.concatenate([x, factor * x]))
    gradient_sums.sum_gradients(resolver, Way(), Check(resolver).measure)
    found = [site.path for site in resolver.gradient_sums]
    layers = [f"model.layers.{i}.self_attn" for i in (2, 1, 0)]
    assert sorted(found) == sorted(f"{layer}.{name}" for layer in layers for name in names)
