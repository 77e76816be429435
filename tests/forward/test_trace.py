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


# ---- leaving by every road


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


def test_saved_arrays_show_later_edits_of_their_site_and_copies_do_not(llama):
    with llama.trace(IDS) as trace:
        live = llama.layers[1].mlp.output.save()
        before = llama.layers[1].mlp.output.copy()
        llama.layers[1].mlp.output[:, 2] = 7.0
        after = llama.layers[2].input.save()
    assert live[0, 2, 0].item() == 7.0 and before[0, 2, 0].item() != 7.0
    assert mx.array_equal(live, trace.activations["layers.1.mlp"])
    live[:, 0] = 1.0  # the user's own now
    assert trace.activations["layers.1.mlp"][0, 0, 0].item() != 1.0
    assert after.shape == live.shape


def test_the_caches_arrays_cannot_be_changed_from_outside(llama):
    with llama.trace(IDS) as trace:
        pass
    x = trace.activations["layers.1.mlp"]
    x *= 0
    assert mx.abs(trace.activations["layers.1.mlp"]).max() > 0


EDITS = {
    "item": lambda x: x.__setitem__((slice(None), 4), 0.0),
    "negative": lambda x: x.__setitem__((0, -3), 0.0),
    "list": lambda x: x.__setitem__((slice(None), [4]), 0.0),
    "mx index": lambda x: x.__setitem__((slice(None), mx.array([4])), 0.0),
    "numpy index": lambda x: x.__setitem__((slice(None), np.array([4])), 0.0),
    "slice": lambda x: x.__setitem__((slice(None), slice(4, 5)), mx.zeros((1, 1, 64))),
    "mask": lambda x: x.__setitem__((Ellipsis,), mx.where((mx.arange(7) == 4)[:, None], 0.0, x)),
    "ellipsis": lambda x: x.__setitem__((Ellipsis, 4, slice(None)), 0.0),
    "imul": lambda x: x.__imul__((mx.arange(7) != 4).astype(mx.float32)[:, None]),
    "numpy": lambda x: x.__imul__((np.arange(7) != 4).astype(np.float64)[:, None]),
}


@pytest.mark.parametrize("edit", EDITS)
def test_ways_to_edit(llama, edit):
    with llama.trace(IDS, interventions={"layers.1.mlp": iv.zero_at(4)}) as expected:
        pass
    with llama.trace(IDS) as trace:
        EDITS[edit](llama.layers[1].mlp.output)
    assert mx.array_equal(trace.output, expected.output)
    assert not mx.array_equal(trace.output, logits(llama))


def test_at_gives_a_changed_copy(llama):
    with llama.trace(IDS) as trace:
        x = llama.layers[1].mlp.output
        y = x.at[0, 4, :].set(mx.zeros(64))
        assert mx.array_equal(x.at[:, 0].add(1.0)[:, 0], x[:, 0] + 1.0)
        llama.layers[1].mlp.output = y
    with llama.trace(IDS, interventions={"layers.1.mlp": iv.zero_at(4)}) as expected:
        pass
    assert mx.array_equal(trace.output, expected.output)


def test_numpy_arrays_may_be_assigned(llama):
    with llama.trace(IDS) as trace:
        llama.layers[1].mlp.output = np.zeros((1, 7, 64))
    assert mx.abs(trace.activations["layers.1.mlp"]).max() == 0
    assert trace.output.dtype == mx.float32


BAD = {
    "shape": (lambda m: setattr(m.layers[1].mlp, "output", mx.zeros((1, 6, 64))), errors.EditError, "shape"),
    "float": (lambda m: setattr(m.layers[1].mlp, "output", 0.0), errors.EditError, r"output\[\.\.\.\]"),
    "none": (lambda m: setattr(m.layers[1].mlp, "output", None), errors.EditError, "NoneType"),
    "complex": (
        lambda m: setattr(m.layers[1].mlp, "output", mx.zeros((1, 7, 64), mx.complex64)),
        errors.EditError,
        "complex64",
    ),
    "past the end": (lambda m: m.layers[1].output.__setitem__((0, 7), 0.0), errors.PositionError, "0 to 6"),
    "far below": (lambda m: m.layers[1].output.__setitem__((0, -8), 0.0), errors.PositionError, "-8"),
    "slice past the end": (
        lambda m: m.layers[1].output.__setitem__((0, slice(5, 9)), 0.0), errors.PositionError, "5:9",
    ),
    "empty slice": (
        lambda m: m.layers[1].output.__setitem__((0, slice(5, 5)), 0.0), errors.PositionError, "selects nothing",
    ),
    "list past the end": (
        lambda m: m.layers[1].output.__setitem__((0, [1, 9]), 0.0), errors.PositionError, "9",
    ),
    "read past the end": (lambda m: m.layers[1].output[:, 7], errors.PositionError, "0 to 6"),
    "too many axes": (lambda m: m.layers[1].output[0, 0, 0, 0], errors.PositionError, "3 axes"),
    "wrong width": (
        lambda m: m.layers[1].output.__setitem__((0, 2), mx.zeros(63)), errors.EditError, r"\(63,\)",
    ),
    "in place": (lambda m: m.layers[1].output.__iadd__(mx.zeros((2, 7, 64))), errors.EditError, r"\(2, 7, 64\)"),
    "in place, numpy": (lambda m: m.layers[1].output.__iadd__(np.zeros(5)), errors.EditError, r"\(5,\)"),
    "layer": (lambda m: m.layers[3].output, errors.PositionError, "0 to 2"),
    "attribute": (lambda m: m.layers[1].mpl, errors.SiteError, "closest: mlp"),
    "tied": (lambda m: m.layers[1].mlp.lm_head, AttributeError, "lm_head"),
    "assignment": (lambda m: setattr(m.layers[1], "mlp", 3), errors.SiteError, "output"),
    "misspelt, of the model": (lambda m: setattr(m, "outputs", mx.zeros((1, 7, 64))), errors.SiteError, "model.output"),
    "without .output": (lambda m: setattr(m, "logits", mx.zeros((1, 7, 64))), errors.SiteError, "model.output"),
    "misspelt, of a site": (
        lambda m: setattr(m.layers[1].resid_mid, "outptu", 0), errors.SiteError, "assign to .output",
    ),
    "input of a site": (lambda m: m.layers[1].resid_mid.input, errors.SiteError, ".output only"),
    "the module": (lambda m: m.layers[1].mlp.__setitem__((0, 1), 0.0), errors.EditError, r"\.output\[\.\.\.\]"),
    "the layer": (lambda m: m.layers.__setitem__(1, 0.0), errors.EditError, ".output"),
    "layer by name": (lambda m: m.layers["1"].output, errors.InputError, "numbered"),
    "layer 1.0": (lambda m: m.layers[1.0].output, errors.InputError, "numbered"),
    "imaginary": (lambda m: m.layers[1].output.__setitem__((0, 1), 1j), errors.EditError, "complex"),
    "short mask": (
        lambda m: m.layers[1].output.__setitem__((0, mx.array([True] * 3)), 0.0), errors.PositionError, r"\(7,\)",
    ),
    "empty mask": (
        lambda m: m.layers[1].output.__setitem__((0, np.zeros(7, bool)), 0.0), errors.PositionError, "selects nothing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_edits(llama, case):
    act, error, text = BAD[case]
    with pytest.raises(error, match=text), llama.trace(IDS):
        act(llama)


def test_edits_of_a_site_that_has_gone_by_name_both_sites(llama):
    with (
        pytest.raises(errors.OrderError, match=r"(?s)layers\.0\.mlp.*has gone by.*layers\.2"),
        llama.trace(IDS),
    ):
        early = llama.layers[0].mlp.output
        llama.layers[2].output  # noqa: B018
        early[:, 1] = 0.0
    with pytest.raises(errors.OrderError, match="gone by"), llama.trace(IDS):
        llama.layers[2].output  # noqa: B018
        llama.layers[0].mlp.output = mx.zeros((1, 7, 64))
    with llama.trace(IDS) as trace:
        late = llama.layers[2].output
        early = llama.layers[0].mlp.output.save()
        changed = early.copy()
        changed[:] = 0.0
    assert mx.array_equal(early, trace.activations["layers.0.mlp"])
    assert mx.array_equal(late, trace.activations["layers.2"])


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


WRONG = {
    "nothing": (lambda x: None, errors.EditError, "return the array"),
    "a float": (lambda x: 0.0, errors.EditError, "float"),
    "a shape": (lambda x: x[:, :3], errors.EditError, "shape"),
    "a list": (lambda x: [x], errors.EditError, "list"),
    "no function": (3, errors.InputError, "not a function"),
}


@pytest.mark.parametrize("case", WRONG)
def test_interventions_that_return_the_wrong_thing(llama, case):
    fn, error, text = WRONG[case]
    with pytest.raises(error, match=text), llama.trace(IDS, interventions={"layers.1.mlp": fn}):
        pass


@pytest.mark.parametrize("mask", [np.array, mx.array])
def test_positions_may_be_a_mask(llama, mask):
    with llama.trace(IDS) as trace:
        llama.layers[1].output[:, mask([True, False] * 3 + [False])] = 0.0
    norms = np.array(mx.abs(trace.activations["layers.1"]).max(-1))[0]
    assert [x == 0 for x in norms] == [True, False] * 3 + [False]


@pytest.mark.parametrize("sites", [3, True])
def test_sites_that_are_no_list(llama, sites):
    with pytest.raises(errors.InputError, match="list of names"):
        llama.run_with_cache(IDS, sites)


def test_interventions_must_be_a_mapping(llama):
    for nothing in (0, [], False):
        with pytest.raises(errors.InputError, match="mapping"):
            llama.trace(IDS, interventions=nothing)
    with pytest.raises(errors.InputError, match="mapping"):
        llama.trace(IDS, interventions=[("layers.1.mlp", iv.zero_out())])


def test_an_intervention_may_edit_in_place(llama):
    kept = []

    def zero(x):
        x[:, 4] = 0.0
        kept.append(x)
        return x

    with llama.trace(IDS, interventions={"layers.1.mlp": zero}) as trace:
        pass
    with llama.trace(IDS, interventions={"layers.1.mlp": iv.zero_at(4)}) as expected:
        pass
    assert mx.array_equal(trace.output, expected.output)
    kept[0][:] = 1.0  # its own array by now
    assert mx.array_equal(trace.activations["layers.1.mlp"], expected.activations["layers.1.mlp"])


def test_an_intervention_at_a_site_that_never_fires():
    net = models.make("llama")
    net.model.spare = nn.Linear(4, 4)
    model = InterpretableModel(net)
    with (
        pytest.raises(errors.OrderError, match="did not happen"),
        model.trace(IDS, interventions={"spare": iv.zero_out()}),
    ):
        pass
    with pytest.raises(errors.OrderError, match="never reached"), model.trace(IDS):
        model.model.spare.output  # noqa: B018
    with pytest.raises(errors.OrderError, match="did not happen"):
        model.run_with_cache(IDS, sites=["spare"])


def test_outside_a_trace_there_are_no_activations(llama):
    for read in (lambda: llama.output, lambda: llama.layers[0].mlp.output, lambda: llama.layers[0].input):
        with pytest.raises(errors.OrderError, match="inside"):
            read()
    with pytest.raises(errors.OrderError), InterpretableModel(models.make("gpt2")).trace(IDS):
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
