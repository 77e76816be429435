"""The one handler of module calls: visits, the hidden argument, what passes, and attention calls inside."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import models
import pytest

from mlxtrace import InterpretableModel
from mlxtrace.anatomy import taps
from mlxtrace.anatomy.attention import Attending, plain_attention
from mlxtrace.anatomy.calls import Calls, argument, tidy
from mlxtrace.anatomy.recording import record
from mlxtrace.engine.runs import Hooks
from mlxtrace.forward.forward_pass import Pass
from mlxtrace.forward.open_traces import current

X, Y = mx.ones((1, 2)), mx.full((1, 2), 2.0)


class Inner(nn.Module):
    def __call__(self, mask, x, scale=None):
        return x * 2, mask


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Inner()

    def __call__(self, x):
        first, _ = self.part(X, x)
        return self.part(X, first, scale=Y)[0]


class Watched(Calls):
    """Notes what passes, and changes what it is told to."""

    def __init__(self, slots, wanted=None, change=lambda x: x):
        super().__init__(slots)
        self.wanted, self.change, self.passed = wanted, change, []

    def wants(self, port):
        return self.wanted is None or port in self.wanted

    def passes(self, port, x):
        self.passed.append((port, x))
        return self.change(x)


def run(calls, net, x):
    with calls.tapping({"": net, "part": net.part}):
        return net(x)


def test_each_call_has_its_visit_and_the_argument_in_the_slot():
    calls = Watched({"part": 1})
    out = run(calls, Net(), Y)
    assert [port for port, _ in calls.passed] == [
        ("part", "input", 0), ("part", "output", 0), ("part", "input", 1), ("part", "output", 1), ("", "output", 0),
    ]  # fmt: skip
    assert mx.array_equal(calls.passed[0][1], Y) and mx.array_equal(out, 4 * Y)


def test_without_a_slot_the_first_array_is_meant():
    calls = Watched({})
    run(calls, Net(), Y)
    assert mx.array_equal(calls.passed[0][1], X)


def test_visits_begin_anew_with_every_pass():
    calls = Watched({"part": 1}, wanted={("part", "output", 1)})
    net = Net()
    run(calls, net, Y)
    run(calls, net, Y)
    assert [port for port, _ in calls.passed] == [("part", "output", 1)] * 2


@pytest.mark.parametrize(("port", "times"), [(("part", "input", 1), 12), (("part", "output", 0), 12)])
def test_what_passes_is_what_goes_on(port, times):
    net = Net()
    out = run(Watched({"part": 1}, {port}, lambda x: 3 * x), net, Y)
    assert mx.array_equal(out, times * Y)
    assert mx.array_equal(net(Y), 4 * Y)  # and the taps are out again


def test_the_other_outputs_of_a_call_stay():
    net = Net()
    calls = Watched({"part": 1}, {("part", "output", 0)}, lambda x: 0 * x)
    with calls.tapping({"part": net.part}):
        x, mask = net.part(X, Y)
    assert mx.abs(x).max().item() == 0 and mx.array_equal(mask, X)


def test_the_models_own_input_is_no_port():
    calls = Watched({}, {("", "input", 0)})
    run(calls, Net(), Y)
    assert calls.passed == []


def test_the_argument_that_is_meant():
    assert argument((X, Y), {}, None) == (0, X) and argument((X, Y), {}, 1) == (1, Y)
    assert argument((1,), {"x": X, "h": Y}, "h") == ("h", Y)
    assert argument((None,), {"x": X}, None) == ("x", X)
    assert argument((X,), {}, 1) == argument((X,), {}, "x") == argument((1,), {}, None) == (None, None)


class Attended(Watched):
    def __init__(self, model, wanted, change=lambda x: x):
        super().__init__(model.resolver.slots, wanted, change)
        self.paths = {port[0] for port in wanted}

    def attends(self, path, visit):
        return path in self.paths


def test_the_attention_call_inside_a_call(llama):
    path, ids = llama.resolver.layer(1).attention, mx.array([[3, 17, 5]])
    plain = llama.net(ids)
    for side, shape in (("q", (1, 3, 4, 16)), ("pattern", (1, 4, 3, 3))):
        calls = Attended(llama, {(path, side, 0)})
        with calls.tapping({path: llama.resolver.paths[path]}):
            out = llama.net(ids)
        ((port, x),) = calls.passed
        assert port == (path, side, 0) and x.shape == shape and mx.array_equal(out, plain)
    calls = Attended(llama, {(path, "v", 0)}, lambda x: 0 * x)
    with calls.tapping({path: llama.resolver.paths[path]}):
        assert not mx.array_equal(llama.net(ids), plain)
    assert mx.fast.scaled_dot_product_attention is plain_attention


def test_nobody_watches_another_way(llama):
    """The probe, a trace and a sweep give every call to the same handler."""
    assert Pass.handler is Hooks.handler is Calls.handler
    ids = mx.array([[3, 17, 5]])
    visits = {(call.path, call.visit) for call in record(llama.net, ids)}
    with llama.trace(ids):
        llama.output  # noqa: B018
        order = {(path, visit) for path, side, visit in current(llama.net)._pass.order if side == "output"}
    called = {(path, visit) for path, visit in visits if path in llama.resolver.modules}
    assert order | {("", 0)} == called


def test_a_module_that_runs_twice_has_two_visits():
    model = InterpretableModel(models.make("llama"))
    norm = model.net.model.layers[0].input_layernorm
    model.net.model.layers[1].input_layernorm = norm
    calls = record(model.net, mx.array([[3, 17, 5]]))
    assert [c.visit for c in calls if c.path == "model.layers.0.input_layernorm"] == [0, 1]


def test_tidying_up_puts_back_classes_and_attention(llama):
    part = llama.net.model.norm
    entered = Watched({}).tapping({"model.norm": part})
    entered.__enter__()
    assert taps._traced
    intercepting = Attending(plain_attention)
    intercepting.__enter__()
    assert mx.fast.scaled_dot_product_attention is not plain_attention
    entered.left = intercepting.left = True  # as an interrupt inside leaving would have it
    tidy()
    assert mx.fast.scaled_dot_product_attention is plain_attention
    assert not taps._traced and type(part) is nn.RMSNorm
