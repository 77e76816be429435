"""One differentiated pass: bit for bit the plain one forwards, and right backwards at every kind of site."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from models import make
from more_models import make as make_more

from mlxtrace.anatomy.recording import forward
from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.engine.gradient_pass import Pass, Way
from mlxtrace.engine.runs import Hooks, Run, capture

IDS = (3, 10, 17, 24, 31, 38)


def first(logits: mx.array) -> mx.array:
    return logits[:, 0] - logits[:, 1]


def one_pass(resolver: ModuleResolver, **options) -> Pass:
    sites = [site for site in resolver.table.values() if site.layer is not None]
    return Pass(resolver, Run(IDS), np.arange(1), sites, **options)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "jamba"])
def test_zeros_leave_the_forward_pass_bit_for_bit(name):
    one = one_pass(ModuleResolver(make(name)))
    zeros, _ = one.zeros()
    plain = mx.array(
        capture(one.resolver, Run(IDS), [])[0]
    )  # the head reads the last position alone, as in `one`
    values, _ = one.gradients(first, zeros)
    assert mx.array_equal(one.logits(), plain.astype(mx.float32)).item()
    assert mx.array_equal(values, first(plain)).item()


@pytest.mark.parametrize("name", ["gpt_oss", "llama"])
def test_the_pattern_has_the_gradient_that_finite_differences_give(name):
    """It is 0 through the call that edits patterns, which puts the heads of a changed one in the output's place."""
    resolver = ModuleResolver((make if name == "llama" else make_more)(name))
    site = resolver.site("pattern", 1)
    one = Pass(resolver, Run(IDS), np.arange(1), [site])
    zeros, _ = one.zeros()
    _, found = one.gradients(first, zeros)
    way = mx.random.normal(zeros[site.name].shape, key=mx.random.key(1))

    def moved(step: float) -> float:
        hooks = Hooks(resolver)
        hooks.add_site(site, lambda x: x + step * way)
        with hooks.hooked():
            return float(first(forward(resolver.net, mx.array([IDS]))[:, -1]).item())

    slope = (moved(1e-3) - moved(-1e-3)) / 2e-3
    assert abs(slope) > 1e-2
    assert float((found[site.name] * way).sum().item()) == pytest.approx(slope, rel=2e-2)


@pytest.mark.parametrize("name", ["llama", "nanbeige", "gemma4_text", "mamba"])
def test_layers_that_are_computed_again_give_the_same_gradients(name):
    """Layers that run twice in a pass, and arrays that go by a layer's side."""
    resolver = ModuleResolver(make(name))
    plain, again = (one_pass(resolver, way=Way(checkpointed=c)) for c in (False, True))
    zeros, _ = plain.zeros()
    (_, right), (_, found) = plain.gradients(first, zeros), again.gradients(first, zeros)
    for site, gradient in right.items():
        assert np.allclose(np.array(found[site]), np.array(gradient), atol=1e-6), site


def test_a_dropped_layer_hands_the_gradient_on_as_it_is():
    resolver = ModuleResolver(make("llama"))
    one = one_pass(resolver, dropped=1)
    zeros, _ = one.zeros()
    values, found = one.gradients(first, zeros)
    assert mx.array_equal(values, first(one.logits())).item()  # forwards nothing is dropped
    assert mx.array_equal(found["layers.1.resid_pre"], found["layers.1.resid_post"]).item()
    assert not any(
        found[f"layers.1.{name}"].any().item() for name in ("mlp", "attn", "head", "q", "resid_mid")
    )
    assert found["layers.0.mlp"].any().item() and found["layers.2.mlp"].any().item()


def test_modules_and_device_are_as_they_were_after_a_way_is_left():
    resolver = ModuleResolver(make("llama"))
    before, device = [m.training for m in resolver.net.modules()], mx.default_device()
    with pytest.raises(KeyError), Way(training=True, cpu=True).taken(resolver):
        assert resolver.paths["model.layers.0.self_attn"].training
        assert not resolver.paths["model.layers.0.mlp"].training
        raise KeyError
    assert [m.training for m in resolver.net.modules()] == before and mx.default_device() == device


def test_what_the_attention_calls_are_given_is_known():
    resolver = ModuleResolver(make_more("gpt_oss"))
    _, attended = Pass(resolver, Run(IDS), np.arange(1), [resolver.site("pattern", 0)]).zeros()
    (found,) = attended.values()
    assert found.scale > 0 and found.sinks is not None
