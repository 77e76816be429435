"""Runs, hooks and plain passes: against the model called plainly, and against traces."""

import gc
import weakref

import mlx.core as mx
import numpy as np
import pytest
from models import make
from noise import close

from mlxtrace import InterpretableModel, errors
from mlxtrace.anatomy.resolver import rows_back, rows_first
from mlxtrace.engine.runs import (
    Hooks,
    Keep,
    Run,
    capture,
    capture_sites,
    norm_input,
    slice_to_last,
)

IDS = (3, 17, 40, 41, 52, 60)


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(make("llama"))


def plain(model, ids=IDS):
    return np.array(model.net(mx.array([ids])))


def traced(model, name):
    _, cache = model.run_with_cache(list(IDS))
    return np.array(cache[name])


def test_noise_goes_to_its_rows_and_positions():
    noise = np.arange(12.0).reshape(3, 2, 2)
    run = Run(IDS, noise, (1, 4))
    assert run.rows == 3 and Run(IDS).rows == 1
    x = mx.zeros((2, 6, 2))
    y = np.array(run.embedded(x, np.array([2, 0])))
    assert (
        (y[0, [1, 4]] == noise[2]).all() and (y[1, [1, 4]] == noise[0]).all() and not y[:, [0, 2, 3, 5]].any()
    )
    later = np.array(run.embedded(mx.zeros((1, 4, 2)), np.array([1]), start=2))
    assert (later[0, 2] == noise[1, 1]).all() and not later[0, [0, 1, 3]].any()
    assert run.embedded(x[:, 5:], np.array([0, 1]), start=5) is not None


def test_rows_of_noise_at_no_position_are_plain_rows(model):
    run = Run(IDS, np.zeros((3, 0, 64)))
    logits, _ = capture(model.resolver, run, [])
    np.testing.assert_allclose(logits, np.repeat(plain(model)[:, -1], 3, axis=0), atol=5e-5)


def test_the_logits_of_the_last_positions_are_kept(model):
    for read, shape in ((1, (1,)), (3, (1, 3))):
        logits, _ = capture(model.resolver, Run(IDS), [], read=read)
        assert logits.shape[:-1] == shape
        np.testing.assert_allclose(logits.reshape(read, -1), plain(model)[0, -read:], atol=5e-5)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize(
    "component", ["resid_pre", "q", "pattern", "head", "attn", "resid_mid", "neuron", "mlp"]
)
def test_captured_arrays_are_those_of_a_trace(model, component, eager):
    site = model.resolver.site(component, 1)
    logits, kept = capture(model.resolver, Run(IDS), [site], eager=eager)
    np.testing.assert_array_equal(np.array(kept[site.name]), traced(model, site.name))
    np.testing.assert_allclose(logits, plain(model)[:, -1], atol=1e-5)
    alone = capture_sites(model.resolver, Run(IDS), [site], {site.name: Keep()}, eager)
    np.testing.assert_array_equal(np.array(alone[site.name]), traced(model, site.name))


def test_what_is_not_wanted_is_not_kept(model):
    site, pattern = model.resolver.site("attn", 1), model.resolver.site("pattern", 1)
    keep = {site.name: Keep(1, (2, 4)), pattern.name: Keep(1, (5,))}
    _, kept = capture(model.resolver, (Run(IDS[::-1]), Run(IDS)), [site, pattern], keep=keep)
    close(np.array(kept[site.name]), traced(model, site.name)[:, [2, 4]], model)
    close(np.array(kept[pattern.name]), traced(model, pattern.name)[:, :, [5]], model)


def test_every_position_or_the_last(model):
    every, _ = capture(model.resolver, Run(IDS), [], every_position=True)
    last, _ = capture(model.resolver, Run(IDS), [])
    assert every.shape == (1, 6, 160) and last.shape == (1, 160)
    np.testing.assert_allclose(every[:, -1], last, atol=1e-5)


def test_runs_with_noise_are_not_one_batch(model):
    noisy = Run(IDS, np.ones((2, 1, 64)), (1,))
    with pytest.raises(errors.EngineError, match="one at a time"):
        capture(model.resolver, (noisy, Run(IDS)), [])


def test_a_site_that_is_never_reached_is_an_error(model):
    from dataclasses import replace

    site = replace(model.resolver.site("attn", 1), visit=9)
    for run in (capture, lambda *a: capture_sites(*a, {site.name: Keep()})):
        with pytest.raises(errors.EngineError, match="never reached"):
            run(model.resolver, Run(IDS), [site])


@pytest.mark.parametrize("component", ["head", "resid_mid", "mlp"])
def test_what_a_hook_gives_back_goes_on(model, component):
    site, hooks, seen = model.resolver.site(component, 1), Hooks(model.resolver), []
    hooks.add_site(site, seen.append)  # gives nothing back: nothing changes
    with hooks.hooked():
        unchanged = np.array(model.net(mx.array([IDS])))
    np.testing.assert_array_equal(unchanged, plain(model))
    hooks = Hooks(model.resolver)
    hooks.add_site(site, lambda x: 2 * x)
    with hooks.hooked():
        doubled = np.array(model.net(mx.array([IDS])))
    with model.trace(list(IDS), interventions={site.name: lambda x: 2 * x}) as trace:
        pass
    np.testing.assert_array_equal(doubled, np.array(trace.output))
    assert np.abs(doubled - unchanged).max() > 1e-3
    np.testing.assert_array_equal(np.array(seen[0]), traced(model, site.name))


def test_what_is_kept_has_memory_of_its_own():
    class InPlace(type(make("llama").model.layers[0])):
        def __call__(self, x, mask=None, cache=None):
            x += 1  # on the array that a hook was given
            return super().__call__(x, mask, cache)

    net = make("llama")
    before = np.array(InterpretableModel(net).run_with_cache(list(IDS))[1]["layers.0.resid_pre"])
    for layer in net.model.layers:
        layer.__class__ = InPlace
    model = InterpretableModel(net)
    _, kept = capture(model.resolver, Run(IDS), [model.resolver.site("resid_pre", 0)])
    np.testing.assert_array_equal(np.array(kept["layers.0.resid_pre"]), before)


@pytest.mark.parametrize("eager", [False, True])
def test_what_was_kept_goes_when_nobody_wants_it(model, eager):
    """At once, and not when Python next looks for cycles: a large model's activations are large."""
    sites = [model.resolver.site(component, 1) for component in ("attn", "resid_mid")]
    gc.collect()
    gc.disable()
    try:
        _, kept = capture(model.resolver, Run(IDS), sites, eager=eager)
        arrays = [weakref.ref(x) for x in kept.values()]
        kept = capture_sites(model.resolver, Run(IDS), sites, {site.name: Keep() for site in sites}, eager)
        arrays += [weakref.ref(x) for x in kept.values()]
        del kept
        assert len(arrays) == 4 and not any(ref() is not None for ref in arrays)
    finally:
        gc.enable()


def test_only_the_last_position_goes_through_the_norm(model):
    hooks, seen = Hooks(model.resolver), []
    slice_to_last(hooks)
    hooks.add(norm_input(model.resolver), lambda x: seen.append(x.shape) or x)
    with hooks.hooked():
        logits = model.net(mx.array([IDS]))
    assert seen == [(1, 1, 64)] and logits.shape == (1, 1, 160)


@pytest.mark.parametrize("component", ["resid_pre", "pattern", "head"])
def test_rows_come_first_and_go_back(model, component):
    site = model.resolver.site(component, 1)
    x = mx.array(traced(model, site.name))
    first = rows_first(model.resolver, site, x)
    assert first.shape[:2] == (1, 6)
    assert mx.array_equal(rows_back(model.resolver, site, first), x)
