"""Interrupts between any two bytecodes, dropped traces, generators, threads: the model is as it was, nothing leaks."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import weakref

import mlx.core as mx
import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel, errors
from mlxtrace.anatomy import attention, block, calls, taps
from mlxtrace.anatomy.attention import attending, plain_attention
from mlxtrace.anatomy.taps import tapping
from mlxtrace.forward import activation, editing, forward_pass, group_trace, open_traces, trace

IDS = [3, 17, 5, 90]
OTHER = [3, 17, 66, 12]
FILES = {
    m.__file__
    for m in (
        activation,
        attention,
        block,
        calls,
        editing,
        forward_pass,
        group_trace,
        open_traces,
        taps,
        trace,
    )
}


class Stop(BaseException):
    pass


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(models.make("llama", num_hidden_layers=2, hidden_size=16, intermediate_size=16))


@pytest.fixture(scope="module")
def expected(model):
    return plain(model)


def plain(model):
    """A forward pass with no use of mlxtrace in it."""
    out = model.net(mx.array([IDS]))
    mx.eval(out)
    return np.array(out)


@pytest.fixture(autouse=True)
def nothing_stays(model):
    yield
    gc.collect()
    assert tapped(model) == 0
    assert mx.fast.scaled_dot_product_attention is plain_attention


def tapped(model):
    return sum(hasattr(type(m), "_mlxtrace_original") for m in model.net.modules())


class Interrupt:
    """Raises Stop at the nth event (an opcode, or a line) in the functions named."""

    def __init__(self, names, at, event):
        self.names, self.left, self.event = names, at, event
        self.raised = False

    def __call__(self, frame, event, arg):
        code = frame.f_code
        if code.co_filename not in FILES or code.co_name not in self.names:
            return None
        frame.f_trace_opcodes = self.event == "opcode"
        return self.local

    def local(self, frame, event, arg):
        if event == self.event and not self.raised:
            self.left -= 1
            if self.left < 0:
                self.raised = True
                raise Stop
        return self.local


def hand_doubled(model):
    return tapping([(m, lambda forward, a, k: forward(*a, **k) * 2) for m in model.net.model.layers])


def use_taps(model):
    with hand_doubled(model):
        mx.eval(model.net(mx.array([IDS])))


def use_attention(model):
    with attending(lambda q, k, v, **o: plain_attention(q, k, v, **o) * 2):
        mx.eval(model.net(mx.array([IDS])))


def use_trace(model):
    with model.trace(IDS, interventions={"layers.0.mlp": lambda x: x * 2}):
        model.layers[1].output[:, 1] = 0.0


def use_attention_site(model):
    with model.trace(IDS, cache=False):
        model.layers[1].pattern.output  # noqa: B018


def use_trace_of_groups(model):
    with model.trace([IDS, OTHER[:3]], interventions={"layers.0.mlp": lambda x: x * 2}, cache=False):
        model.layers[1].output[:, 1] = 0.0


USES = {f.__name__: f for f in (use_taps, use_attention, use_trace, use_attention_site, use_trace_of_groups)}
ENTERING = {
    *("__enter__", "__exit__", "enter", "abandon", "put_in", "tidy", "running", "__get__", "gone"),
    *("add", "remove", "here", "go_in", "go_out", "set_here", "_within_runs"),
}
PLACES = {"taps": ENTERING, "trace": {*ENTERING, "_begin", "begin", "activate", "stop", "close"}}


# Python ignores what is raised where an object goes away, and says so
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("event", ["line", pytest.param("opcode", marks=pytest.mark.heavy)])
@pytest.mark.parametrize("use", USES)
def test_an_interrupt_anywhere_in_entering_and_leaving(model, expected, use, event):
    names = PLACES["trace" if "trace" in use or "site" in use else "taps"]
    step = (5 if event == "line" else 3) if "trace" in use or "site" in use else 1
    if "groups" in use:
        step = 41  # the passes begin and end one after the other, so that there is more of the same
    kept = []  # the exceptions, whose tracebacks hold every frame, as `sys.last_value` does
    at = 0
    while True:
        interrupt = Interrupt(names, at, event)
        sys.settrace(interrupt)
        try:
            USES[use](model)
        except Stop as error:
            kept.append(error)
        finally:
            sys.settrace(None)
        if not interrupt.raised:
            break
        assert np.array_equal(plain(model), expected), f"{event} {at}: the next plain pass differs"
        with pytest.raises(errors.OrderError, match="inside"):
            model.layers[1].output  # noqa: B018
        if at % 5 == 0:
            with model.trace(IDS) as again:
                pass
            assert np.array_equal(np.array(again.output), expected), f"{event} {at}: the next trace differs"
            assert tapped(model) == 0 and mx.fast.scaled_dot_product_attention is plain_attention, at
        at += step
    assert at > 20 and len(kept) > 5


# ---- traces that are dropped


def test_a_trace_that_is_dropped_without_being_left(model):
    opened = model.trace(IDS)
    opened.__enter__()
    model.layers[1].output  # noqa: B018
    assert tapped(model) > 10
    gone = weakref.ref(opened)
    del opened
    assert gone() is None and tapped(model) == 0
    groups = model.trace([IDS, OTHER[:3]])
    groups.__enter__()
    model.layers[1].output  # noqa: B018
    assert tapped(model) > 10
    gone = weakref.ref(groups)
    del groups
    assert gone() is None and tapped(model) == 0
    with pytest.raises(errors.OrderError, match="no trace of this model is open"):
        model.layers[1].output  # noqa: B018
    model.trace(IDS).__enter__()
    assert tapped(model) == 0


@pytest.mark.parametrize("site", ["output", "pattern"])
def test_a_trace_whose_thread_ends(model, expected, site):
    made = []

    def work():
        made.append(model.trace(IDS))
        made[0].__enter__()
        layer = model.layers[1]
        layer.output if site == "output" else layer.pattern.output  # noqa: B018

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert tapped(model) == 0 and mx.fast.scaled_dot_product_attention is plain_attention
    assert np.array_equal(plain(model), expected)
    with pytest.raises(errors.OrderError, match="failed"):
        made[0].__exit__(None, None, None)


@pytest.mark.parametrize("keep", ["done", "failed"])
@pytest.mark.parametrize("prompts", [IDS, [IDS, OTHER[:3]]], ids=["one", "groups"])
def test_activations_go_without_the_cycle_collector(model, keep, prompts):
    def once():
        with contextlib.suppress(ValueError), model.trace(prompts, {"layers.0.mlp": lambda x: x * 2}) as run:
            model.layers[0].output[0][:, 3] = 0.0
            model.layers[1].attn.output[:, 1].save()
            if keep == "failed":
                raise ValueError
        member = run if prompts is IDS else run._members[1]
        seen = weakref.ref(run), weakref.ref(member._pass)
        return seen

    gc.collect()
    gc.disable()
    try:
        seen = [once() for _ in range(3)]
        before = mx.get_active_memory()
        seen += [once() for _ in range(10)]
        assert all(ref() is None for pair in seen for ref in pair)
        assert mx.get_active_memory() <= before
    finally:
        gc.enable()


def test_leaving_what_was_not_entered(model):
    never = model.trace(IDS)
    with pytest.raises(errors.OrderError, match="after it was entered"):
        never.__exit__(None, None, None)
    with never:
        assert hasattr(never, "__exit__")
        model.layers[1].output  # noqa: B018
    with pytest.raises(errors.OrderError, match="once"):
        never.__exit__(None, None, None)


# ---- runs that the trace does not reach


def test_the_model_may_not_be_run_beside_the_trace(model):
    ids = mx.array([IDS])
    runs = {
        "net": lambda: model.net(ids),
        "body of the net": lambda: model.net.model(ids),
        "from a function": lambda: mx.grad(lambda x: model.net(ids).sum() * x)(mx.array(1.0)),
    }
    for name, act in runs.items():
        for before in (lambda: None, lambda: model.layers[0].output):
            with pytest.raises(errors.OrderError, match="not by the trace"), model.trace(IDS):
                before()
                act()
        act()
        assert tapped(model) == 0, name


def test_generating_beside_the_trace_is_refused():
    from mlx_lm.generate import generate_step

    model = InterpretableModel(models.make("gpt2"))
    for act in (lambda: next(generate_step(mx.array(IDS), model.net, max_tokens=2)),):
        with pytest.raises(errors.OrderError, match=r"mlx_lm\.generate"), model.trace(IDS):
            act()
        act()


def test_what_may_be_run_beside_the_trace(model, expected):
    other = InterpretableModel(models.make("gpt2"))
    with model.trace(IDS) as run:
        h = model.layers[1].output
        assert mx.array_equal(model.net.lm_head(model.net.model.norm(h)), model.output)
        assert other.net(mx.array([IDS])).shape[1] == len(IDS)
        with model.trace(OTHER) as inner:
            x = model.layers[1].output.save()
        _, cache = model.run_with_cache(OTHER)
        swept = model.activation_patching(OTHER, IDS, component="mlp", metric="logit", target=5, foil=6)
    assert mx.array_equal(x, inner.activations["layers.1"]) and mx.array_equal(x, cache["layers.1"])
    assert np.array_equal(np.array(run.output), expected)
    again = model.activation_patching(OTHER, IDS, component="mlp", metric="logit", target=5, foil=6)
    assert np.array_equal(swept.raw, again.raw)
    with model.trace():
        assert np.array_equal(plain(model), expected)  # no pass of its own, so nothing to reach


def test_a_thread_of_its_own_is_not_in_the_block(model, expected):
    found = []
    with model.trace(IDS, {"layers.0.mlp": lambda x: x * 0}):
        model.layers[1].output  # noqa: B018
        thread = threading.Thread(target=lambda: found.append(plain(model)))
        thread.start()
        thread.join()
    assert np.array_equal(found[0], expected)
