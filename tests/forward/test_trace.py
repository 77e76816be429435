"""Traces in use and in misuse: whatever happens in the block, the model is afterwards as it was."""

from __future__ import annotations

import gc
import threading

import mlx.core as mx
import mlx.nn as nn
import models
import numpy as np
import pytest
from mlx.utils import tree_flatten
from noise import close

from mlxtrace import InterpretableModel, errors
from mlxtrace import interventions as iv
from mlxtrace.anatomy.recording import forward
from mlxtrace.anatomy.taps import _traced

IDS = [3, 17, 5, 90, 41, 8, 77]
OTHER = [3, 17, 66, 12, 41, 8, 20]


@pytest.fixture(autouse=True)
def untouched(request):
    """After every test the model's classes and logits are bit for bit what they were."""
    model = request.getfixturevalue("llama")
    classes = [type(m) for m in model.net.modules()]
    before = logits(model)
    yield
    gc.collect()
    assert [type(m) for m in model.net.modules()] == classes
    assert not _traced
    assert mx.array_equal(logits(model), before)


def logits(model, ids=IDS):
    out = forward(model.net, mx.array([ids]))
    mx.eval(out)
    return out


# ---- leaving, in order and by exceptions


class Stop(Exception):
    pass


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("when", ["before", "paused", "after"])
def test_exceptions_in_the_body(llama, error, when):
    with pytest.raises(error), llama.trace(IDS) as trace:
        if when != "before":
            llama.layers[1].output[:, 2] = 0.0
        if when == "after":
            llama.output  # noqa: B018
        raise error
    with pytest.raises(errors.OrderError, match="failed"):
        trace.output  # noqa: B018


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
def test_exceptions_in_an_intervention(llama, error):
    def fail(x):
        raise error

    with pytest.raises(error), llama.trace(IDS, interventions={"layers.1.mlp": fail}):
        pass
    with pytest.raises(error), llama.trace(IDS, interventions={"layers.1.mlp": fail}):
        llama.layers[2].output  # noqa: B018


class Broken(nn.Module):
    def __call__(self, x):
        raise Stop("inside the pass")


def test_exceptions_in_the_pass():
    net = models.make("llama")
    model = InterpretableModel(net)
    model.resolver.structure  # noqa: B018 - the probe comes before the break
    mlp, net.model.layers[1].mlp = net.model.layers[1].mlp, Broken()
    with pytest.raises(Stop), model.trace(IDS):
        pass
    with pytest.raises(Stop), model.trace(IDS):
        model.layers[2].output  # noqa: B018
    with pytest.raises(errors.OrderError, match="failed already"), model.trace(IDS):  # noqa: SIM117
        with pytest.raises(Stop):
            model.layers[2].output  # noqa: B018
    assert all(not hasattr(type(m), "_mlxtrace_original") for m in net.modules())
    net.model.layers[1].mlp = mlp


def test_exceptions_in_nested_traces(llama):
    with pytest.raises(Stop), llama.trace(IDS):
        llama.layers[1].output  # noqa: B018
        with llama.trace(OTHER):
            llama.layers[0].output  # noqa: B018
            raise Stop
    with llama.trace(IDS) as outer:
        llama.layers[1].mlp.output *= 1.0
        with pytest.raises(Stop), llama.trace(OTHER):
            llama.layers[0].output  # noqa: B018
            raise Stop
        h = llama.layers[2].output.save()
    assert mx.array_equal(outer.output, logits(llama))
    assert mx.array_equal(h, outer.activations["layers.2"])


def test_nested_traces_do_not_see_each_other(llama):
    with llama.trace(IDS) as corrupted:
        before = llama.layers[1].input
        with llama.trace(OTHER) as clean:
            source = llama.layers[1].output.save()
        llama.layers[1].output = source
        after = llama.layers[2].input
    assert not mx.array_equal(before, clean.activations["layers.1.resid_pre"])
    assert mx.array_equal(after, source)
    assert mx.array_equal(corrupted.output, logits(llama, OTHER))


def test_a_trace_that_is_never_entered_or_entered_twice(llama):
    llama.trace(IDS)
    trace = llama.trace(IDS)
    with trace:
        pass
    with pytest.raises(errors.OrderError, match="once"), trace:
        pass
    with pytest.raises(errors.OrderError, match="once"), llama.trace(IDS) as outer, outer:
        pass


def test_an_abandoned_generator(llama):
    def steps():
        with llama.trace(IDS):
            yield llama.layers[1].output
            yield llama.layers[2].output

    kept = steps()
    next(kept)
    assert _traced
    assert mx.array_equal(logits(llama), llama.trace(IDS).__class__ and logits(llama))
    del kept
    gc.collect()
    assert not _traced


def test_a_generator_left_for_another_thread_to_end(llama):
    def steps():
        with llama.trace(IDS):
            yield llama.layers[1].output

    kept = steps()
    next(kept)
    thread = threading.Thread(target=lambda: kept.close())
    thread.start()
    thread.join()
    assert not _traced


def test_threads_trace_the_same_model(llama):
    results, failures = {}, []

    def work(number):
        try:
            # mlx keeps a default stream per thread, so each thread computes on one of its own
            with mx.stream(
                mx.new_thread_local_stream(mx.cpu) if hasattr(mx, "new_thread_local_stream") else mx.cpu
            ):
                for _ in range(5):
                    with llama.trace(IDS) as trace:
                        llama.layers[1].mlp.output *= float(number)
                    results[number] = np.array(trace.output)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failures
    for number, found in results.items():
        with llama.trace(IDS, interventions={"layers.1.mlp": iv.scale(float(number))}) as alone:
            pass
        assert np.array_equal(found, np.array(alone.output))


def test_tracing_inside_an_intervention_and_a_body(llama):
    def from_another_run(x):
        with llama.trace(OTHER) as inner:
            found = llama.layers[1].mlp.output.save()
        assert mx.array_equal(inner.output, logits(llama, OTHER))
        return found

    with llama.trace(IDS, interventions={"layers.1.mlp": from_another_run}) as outer:
        x = llama.layers[0].output
        plain = logits(llama, OTHER)
        x[:, 1] = 0.0
    assert mx.array_equal(plain, logits(llama, OTHER))
    assert mx.array_equal(outer.activations["layers.1.mlp"][:, 3], _mlp(llama, OTHER)[:, 3])


def _mlp(model, ids):
    with model.trace(ids) as trace:
        pass
    return trace.activations["layers.1.mlp"]


def test_invocations_are_passes_of_their_own(llama):
    with llama.trace() as trace:
        with trace.invoke(IDS) as first:
            h = llama.layers[1].output.save()
        with trace.invoke(OTHER, interventions={"layers.1": lambda x: h}) as second:
            pass
    assert trace.invokes == [first, second]
    assert mx.array_equal(second.output, first.output)
    with pytest.raises(errors.OrderError, match="no prompt"):
        trace.output  # noqa: B018
    with pytest.raises(errors.InputError, match="prompt"):
        llama.trace(interventions={"layers.1": lambda x: x})


# ---- edits


def test_two_views_of_one_array(llama):
    with llama.trace(IDS) as trace:
        attn = llama.layers[1].attn.output
        attn[:, 2] = 0.0
        mid = llama.layers[1].resid_mid.output
        assert mx.array_equal(mid[:, 2], trace.read(llama.resolver.resolve("layers.1.resid_pre"))[:, 2])
        mid[:, 3] = 0.0
        with pytest.raises(errors.OrderError, match="resid_mid"):
            attn[:, 4] = 0.0
    acts = trace.activations
    assert mx.abs(acts["layers.1.attn"][:, 2]).max() == 0
    assert mx.abs(acts["layers.1.resid_mid"][:, 3]).max() == 0


@pytest.mark.parametrize("cache", [True, False])
def test_the_middle_can_be_edited_without_a_cache(llama, cache):
    with llama.trace(IDS, cache=cache) as trace:
        x = llama.layers[1].attn.output
        assert x.shape == (1, 7, 64)
        llama.layers[1].resid_mid.output[:, 2] = 0.0
        assert mx.abs(llama.layers[1].post_attention_layernorm.output[:, 2]).max() == 0
    assert not mx.array_equal(trace.output, logits(llama))
    if not cache:
        with pytest.raises(errors.OrderError, match="cache=False"):
            trace.activations  # noqa: B018


def test_without_a_cache_gone_by_sites_cannot_be_read(llama):
    with pytest.raises(errors.OrderError, match="cache=False"), llama.trace(IDS, cache=False):
        llama.layers[2].output  # noqa: B018
        llama.layers[0].output  # noqa: B018


# ---- prompts and dtypes


@pytest.mark.parametrize("ids", [[5], [7] * 250, list(range(100))])
def test_short_and_long_prompts(llama, ids):
    with llama.trace(ids) as trace:
        llama.layers[1].mlp.output[:, -1] *= 1.0
    assert mx.array_equal(trace.output, logits(llama, ids))


def test_several_prompts_at_once(llama):
    with llama.trace(mx.array([IDS, OTHER])) as trace:
        x = llama.layers[0].output
        x[0] = x[1]
    assert trace.output.shape == (2, 7, models.VOCAB)
    right = np.array(logits(llama, OTHER)[0])
    close(np.array(trace.output), np.stack([right, right]), llama)


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_half_precision_stays_so(name, dtype):
    model = InterpretableModel(models.make(name, dtype=dtype))
    with model.trace(IDS, interventions={"layers.0.mlp": lambda x: x.astype(mx.float32) * 2}) as trace:
        model.layers[1].mlp.output += mx.ones((1, 7, 1), mx.float32)
        model.layers[1].output[:, 2] = np.zeros(model.d_model, np.float32)
        model.layers[2].output = mx.zeros((1, 7, model.d_model), mx.float32)
    assert {x.dtype for x in trace.activations.values()} == {dtype}
    assert trace.output.dtype == dtype


def test_gradients_reach_an_edit(llama):
    def loss(delta):
        with llama.trace(IDS, cache=False) as trace:
            llama.layers[1].resid_mid.output += delta
        return trace.output[0, -1, 5]

    delta = mx.zeros((1, 7, 64))
    slope = mx.grad(loss)(delta)
    step = mx.zeros((1, 7, 64))
    step[0, 3, 10] = 1e-2
    measured = (loss(step) - loss(-step)) / 2e-2
    assert abs(slope[0, 3, 10].item() - measured.item()) < 2e-3


def test_every_weight_is_what_it_was(llama):
    before = {k: mx.array(v) for k, v in tree_flatten(llama.net.parameters())}
    with llama.trace(IDS):
        llama.layers[0].output *= 3.0
    after = dict(tree_flatten(llama.net.parameters()))
    assert all(mx.array_equal(before[k], after[k]) for k in before)


def test_run_with_cache_keeps_what_is_named(llama):
    out, cache = llama.run_with_cache(IDS, sites=["layers.1.mlp", "layers.2.resid_mid", "layers.0.head"])
    full, everything = llama.run_with_cache(IDS)
    assert mx.array_equal(out, full)
    assert cache.nbytes < everything.nbytes / 5
    for name in ("layers.1.mlp", "layers.2.resid_mid", "layers.0.head"):
        assert mx.array_equal(cache[name], everything[name])
    assert "layers.0.mlp" not in cache
    assert list(llama.run_with_cache(IDS, sites="layers.1")[1]) == ["model.layers.1"]
    with pytest.raises(errors.SiteError, match="closest"):
        llama.run_with_cache(IDS, sites=["layers.1.mpl"])
