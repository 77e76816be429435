"""Layers that are called again: on the same input they do the same, and nothing of a call is left behind."""

import mlx.core as mx
import numpy as np
import pytest
from models import make

from mlxtrace.anatomy.attention import plain_attention
from mlxtrace.anatomy.recording import forward
from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.engine.layer_records import Hooks, record_calls

IDS = (3, 17, 90, 91, 52, 60)


@pytest.fixture(scope="module", params=["llama", "gpt2", "granite"])
def ran(request):
    """A resolver, its layers' calls, and what sites had in that pass."""
    resolver = ModuleResolver(make(request.param))
    hooks, kept = Hooks(resolver), {}
    for site in resolver.table.values():
        if site.layer == 1 and site.side != "pattern":
            hooks.add_site(site, lambda x, name=site.component: kept.update({name: x}))
    calls = record_calls(hooks)
    with hooks.hooked():
        mx.eval(forward(resolver.net, mx.array([IDS, IDS[::-1]])))
    mx.eval(list(kept.values()))
    return resolver, calls, kept


def close(a, b):
    np.testing.assert_allclose(np.array(a), np.array(b), atol=2e-5 * float(mx.abs(b).max()), rtol=0)


def test_on_the_same_input_it_does_the_same(ran):
    _, calls, kept = ran
    x = kept["resid_pre"]
    close(calls[1].again(x), kept["resid_post"])
    q, k, v = calls[1].attention_inputs(x)
    for name, found in zip("qkv", (q, k, v), strict=True):
        close(found, kept[name])
    close(calls[1].projected(mx.zeros_like(x), q, k, v), kept["head"].reshape(*x.shape[:2], -1))
    three = calls[1].attention_inputs(mx.concatenate([x, 0 * x, x]))[1]
    close(three[4:], kept["k"])


def test_what_the_parts_write_adds_up_to_the_layer(ran):
    _, calls, kept = ran
    added = calls[1].written(mixer=kept["attn"]) + calls[1].written(mlp=kept["mlp"])
    close(kept["resid_pre"] + added, kept["resid_post"])
    middle = kept["resid_pre"] + calls[1].written(mixer=kept["attn"])
    close(calls[1].mlp_output(middle), kept["mlp"])


def test_nothing_is_left_behind(ran):
    resolver, calls, kept = ran
    before = np.array(kept["resid_pre"])
    calls[1].attention_inputs(kept["resid_pre"])
    assert mx.fast.scaled_dot_product_attention is plain_attention
    assert not any(hasattr(type(module), "_mlxtrace_original") for module in resolver.paths.values())
    assert np.array_equal(np.array(kept["resid_pre"]), before)
