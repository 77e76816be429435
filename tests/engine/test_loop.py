"""The loop engine: the same as a trace written by hand, to the last bit."""

import mlx.core as mx
import numpy as np
import pytest
from models import make

from mlxtrace import InterpretableModel
from mlxtrace.engine.loop import run_loop
from mlxtrace.engine.runs import Patch, Run, capture

CLEAN = (3, 17, 40, 41, 52, 60)
CORRUPTED = (3, 17, 90, 91, 52, 60)


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(make("llama"))


def sources_of(model, *sites):
    return {False: capture(model.resolver, Run(CLEAN), sites)[1]}


@pytest.mark.parametrize("component", ["resid_pre", "attn", "resid_mid", "mlp", "resid_post"])
def test_it_is_a_trace_by_hand(model, component):
    site = model.resolver.site(component, 1)
    sources = sources_of(model, site)
    found = run_loop(model.resolver, Run(CORRUPTED), sources, [Patch(site, (2, 4), (3, 4))], 1)

    def edit(x):
        x = mx.array(x)
        x[:, 2], x[:, 4] = sources[False][site.name][:, 3], sources[False][site.name][:, 4]
        return x

    with model.trace(list(CORRUPTED), interventions={site.name: edit}) as trace:
        pass
    np.testing.assert_array_equal(found, np.array(trace.output))


def test_only_the_heads_that_are_named_are_patched(model):
    site = model.resolver.site("head", 1)
    sources = sources_of(model, site)
    found = run_loop(model.resolver, Run(CORRUPTED), sources, [Patch(site, (2,), (2,), heads=(0, 3))], 1)

    def edit(x):
        x = mx.array(x)
        for head in (0, 3):
            x[:, 2, head] = sources[False][site.name][:, 2, head]
        return x

    with model.trace(list(CORRUPTED), interventions={site.name: edit}) as trace:
        pass
    np.testing.assert_array_equal(found, np.array(trace.output))


def test_patches_of_one_site_are_made_one_after_the_other(model):
    site = model.resolver.site("mlp", 1)
    sources = sources_of(model, site)
    both = run_loop(
        model.resolver, Run(CORRUPTED), sources, [Patch(site, (2,), (2,)), Patch(site, (3,), (3,))], 1
    )
    at_once = run_loop(model.resolver, Run(CORRUPTED), sources, [Patch(site, (2, 3), (2, 3))], 1)
    np.testing.assert_array_equal(both, at_once)


def test_a_block_of_rows_and_fixed_values(model):
    """Each row has its own sample of the noise, and a fixed patch takes the fixed run's value."""
    site = model.resolver.site("mlp", 1)
    noise = np.random.RandomState(0).randn(3, 1, 64) * 0.1
    base = Run(CORRUPTED, noise, (2,))
    fixed = capture(model.resolver, base, [site])[1]
    sources = {**sources_of(model, site), True: fixed}
    found = run_loop(model.resolver, base, sources, [Patch(site, (4,), (4,), fixed=True)], 3)
    plain, _ = capture(model.resolver, base, [], every_position=True)
    assert found.shape == (3, 6, 160)
    np.testing.assert_allclose(found, plain, atol=5e-5)  # the base run's own values change nothing
    assert np.abs(found[0, -1] - found[1, -1]).max() > 1e-4
