"""The block of a trace over prompts of several lengths: its order, its errors, what nests in it, what it lets go of."""

from __future__ import annotations

import gc
import threading
import weakref

import mlx.core as mx
import models
import pytest
from group_runs import MIXED, A, B, C, plain, untouched  # noqa: F401

from mlxtrace import InterpretableModel, errors
from mlxtrace import interventions as iv
from mlxtrace.anatomy.taps import _traced
from mlxtrace.forward.groups import Groups


class Stop(Exception):
    pass


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("when", ["before", "paused", "after"])
def test_exceptions_in_the_body_end_all_passes(llama, error, when):
    with pytest.raises(error), llama.trace(MIXED) as trace:
        if when != "before":
            llama.layers[1].output[:, 2] = 0.0
        if when == "after":
            llama.output  # noqa: B018
        raise error
    assert all(member._pass._coroutine is None for member in trace._members)
    with pytest.raises(errors.OrderError, match="failed"):
        trace.output  # noqa: B018


@pytest.mark.parametrize("failing", [7, 9])
def test_an_exception_in_one_pass_ends_all(llama, failing):
    def fail(x):
        if x.shape[1] == failing:
            raise Stop
        return x

    with pytest.raises(Stop), llama.trace(MIXED, interventions={"layers.1.mlp": fail}):
        pass
    with pytest.raises(Stop), llama.trace(MIXED, interventions={"layers.1.mlp": fail}) as trace:
        llama.layers[2].output  # noqa: B018
    assert all(member._pass._coroutine is None for member in trace._members)


def test_sites_are_asked_for_in_order(llama):
    with llama.trace(MIXED) as trace:
        late = llama.layers[2].output
        early = llama.layers[0].output
        view = late[:, -1]
        for edit_gone in (
            lambda: early.__setitem__((slice(None), -1), 0.0),
            lambda: early.__imul__(2.0),
            lambda: early[1].__setitem__(0, 0.0),
            lambda: setattr(llama.layers[0], "output", 0.0),
            lambda: early[:, -1].__imul__(2.0),
        ):
            with pytest.raises(errors.OrderError, match="gone by"):
                edit_gone()
        llama.output  # noqa: B018
        with pytest.raises(errors.OrderError, match="gone by: the pass is at logits"):
            view *= 2.0
    assert mx.array_equal(trace.activations["layers.0"][1], early[1])
    assert mx.array_equal(trace.output[1], plain(llama, [B])[0])


def test_without_a_cache_what_went_by_is_gone(llama):
    with llama.trace(MIXED, cache=False) as trace:
        llama.layers[2].output  # noqa: B018
        with pytest.raises(errors.OrderError, match="cache=False"):
            llama.layers[0].output  # noqa: B018
    with pytest.raises(errors.OrderError, match="cache=False"):
        trace.activations  # noqa: B018
    assert mx.array_equal(trace.output[1], plain(llama, [B])[0])


def test_a_trace_runs_once_and_has_no_output_before_its_end(llama):
    trace = llama.trace(MIXED)
    with trace:
        for what in ("output", "activations"):
            with pytest.raises(errors.OrderError, match="after the block"):
                getattr(trace, what)
    with pytest.raises(errors.OrderError, match="once"), trace:
        pass
    assert trace.output is trace.output
    trace.output[0][0] = 0.0  # a handle of its own
    assert trace.tokens[1].tolist() == B


def test_traces_nest_in_each_other(llama):
    with llama.trace(MIXED) as outer:
        before = llama.layers[0].output[:, -1]
        with llama.trace(A) as inner:
            source = llama.layers[1].output.save()
        with llama.trace([B, A]) as groups:
            both = llama.layers[1].output.save()
        llama.layers[1].output[0] = source[0]
        llama.layers[2].output[0] = both[1]
    assert mx.array_equal(inner.output, plain(llama, [A]))
    assert mx.array_equal(groups.output[0], plain(llama, [B])[0])
    assert mx.array_equal(outer.output[1], plain(llama, [B])[0])
    assert mx.array_equal(before, mx.stack([x[-1] for x in outer.activations["layers.0"]]))
    with llama.trace(A) as outer, llama.trace(MIXED) as inner:
        assert isinstance(llama.layers[1].output, Groups)
    assert mx.array_equal(outer.output, plain(llama, [A]))


def test_an_intervention_sees_no_other_pass(llama):
    """Where it asks for a site, no trace is open: another group's array would be a quiet mistake."""

    def ask(x):
        return llama.layers[0].output

    with (
        pytest.raises(errors.OrderError, match="no trace"),
        llama.trace(MIXED, interventions={"layers.1.mlp": ask}),
    ):
        pass


def test_the_model_is_not_run_inside_by_anybody_else(llama):
    with pytest.raises(errors.OrderError, match="not by the trace"), llama.trace(MIXED):
        llama.net(mx.array([A]))


def test_invoke_takes_lists(llama):
    with llama.trace() as trace:
        with trace.invoke(MIXED, interventions={"layers.1.mlp": iv.zero_out()}) as groups:
            h = llama.layers[1].mlp.output[:, -1].save()
        with trace.invoke([A, C]) as batch:
            pass
        with groups.invoke(A) as inner:
            pass
    assert not h.any().item() and batch.output.shape[:2] == (2, 7)
    assert mx.array_equal(inner.output, plain(llama, [A]))
    assert trace.invokes == [groups, batch]
    with llama.trace(cache=False) as trace, trace.invoke(MIXED) as bare:
        pass
    with pytest.raises(errors.OrderError, match="cache=False"):
        bare.activations  # noqa: B018
    for nothing in (None, [], [A, 5]):
        with pytest.raises(errors.InputError), llama.trace() as trace:
            trace.invoke(nothing)


def test_a_site_that_is_never_reached(llama):
    with pytest.raises(errors.PositionError):
        llama.trace(MIXED, interventions={"layers.9": iv.zero_out()})
    with pytest.raises(errors.SiteError), llama.trace(MIXED):
        llama.layers[1].mpl  # noqa: B018


def test_an_error_of_one_pass_says_which_prompts_are_its():
    model = InterpretableModel(models.make("mamba"))
    late = {"layers.0.mixer.x_proj@7": iv.scale(2.0)}  # it is called once a token
    said = r"prompts 0, 2 of 7 tokens: .*x_proj@7.* did not happen"
    with pytest.raises(errors.OrderError, match=said), model.trace(MIXED, interventions=late):
        pass
    with (
        pytest.raises(errors.EditError, match=r"prompt 1 of 9 tokens: .*NaN or infinite"),
        model.trace(MIXED),
    ):
        model.layers[1].output[1] = float("nan")


def test_a_trace_that_nobody_holds_is_over(llama):
    def opened():
        trace = llama.trace(MIXED)
        trace.__enter__()
        llama.layers[1].output[:, -1] *= 2.0
        return weakref.ref(trace)

    ref = opened()
    gc.collect()
    assert ref() is None and not _traced


def test_what_is_kept_of_a_block_lets_go_of_the_rest(llama):
    gc.collect()
    gc.disable()
    try:
        with llama.trace(MIXED, cache=False) as trace:
            h = llama.layers[1].output
            arrays = [weakref.ref(group.array) for group in h.groups]
            last, first = h[:, -1].save(), h[:, 0][0].save()
            last *= 2.0
        del h, trace
        assert [ref() for ref in arrays] == [None, None]
    finally:
        gc.enable()
    last *= 2.0
    first += 1.0


def test_another_thread_cannot_read_it(llama):
    found = []

    def read():
        try:
            llama.layers[2].output  # noqa: B018
        except errors.OrderError as error:
            found.append(error)

    with llama.trace(MIXED):
        llama.layers[1].output  # noqa: B018
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert len(found) == 1
