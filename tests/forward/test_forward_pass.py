"""One pass as a coroutine: it waits where it is asked to, records what goes by, and lets go of everything."""

from __future__ import annotations

import gc
import weakref

import mlx.core as mx
import pytest

from mlxtrace import errors
from mlxtrace.anatomy.block import Block
from mlxtrace.anatomy.calls import tidy
from mlxtrace.anatomy.recording import forward
from mlxtrace.anatomy.taps import _traced
from mlxtrace.forward.forward_pass import Pass, compute, port_name

IDS = mx.array([[3, 17, 5, 90]])
LAYER = ("model.layers.1", "output", 0)
MLP = ("model.layers.1.mlp", "output", 0)


class Body(Block):
    """What a trace is to its pass."""

    def __init__(self, change=lambda x: x):
        self.change, self.seen = change, []

    def after_waiting(self, x, awaited):
        self.seen.append(awaited)
        return self.change(x)

    def abandon(self):
        self.left = True


@pytest.fixture
def begin(llama):
    made = []

    def start(change=lambda x: x, keep_all=True, only=None):
        body = Body(change)
        run = Pass(llama.resolver, IDS, keep_all, weakref.WeakMethod(body.after_waiting))
        body.enter()
        made.append((body, run))
        run.begin(body, only, lambda module, own: None)
        return run, body

    yield start
    for body, run in made:
        run.stop()
        body.abandon()
    tidy()
    assert not _traced


def test_it_stops_at_each_port_and_goes_on_to_the_end(llama, begin):
    run, body = begin()
    x = run.until(MLP)
    assert run.paused == MLP and x.shape == (1, 4, llama.d_model)
    assert list(run.order)[-1] == MLP and LAYER not in run.order
    y = run.until(LAYER)
    assert run.paused == LAYER and not mx.array_equal(x, y)
    assert run.until(None) is None and run.paused is None
    assert body.seen == [LAYER, None]
    assert mx.array_equal(run.logits, forward(llama.net, IDS))
    assert run.until(LAYER) is None  # it has gone by


def test_a_port_that_never_fires_ends_the_pass(begin):
    run, _ = begin()
    assert run.until(("model.layers.1", "output", 1)) is None
    assert run.logits is not None


def test_what_the_body_makes_of_an_array_goes_on(llama, begin):
    run, _ = begin(change=lambda x: x * 0)
    run.until(MLP)
    run.until(None)
    with llama.trace(IDS, interventions={"layers.1.mlp": lambda x: x * 0}) as trace:
        pass
    assert mx.array_equal(run.logits, trace.output)
    assert mx.abs(run.seen[MLP]).max().item() == 0


def test_edits_come_before_the_body_and_both_before_the_record(begin):
    run, _ = begin(change=lambda x: x + 1)
    run.edits[MLP] = [lambda x: x * 0, lambda x: x + 2]
    assert mx.array_equal(run.until(MLP), mx.full((1, 4, 64), 2.0))
    run.until(LAYER)
    assert mx.array_equal(run.seen[MLP], mx.full((1, 4, 64), 3.0))


def test_only_what_is_needed_is_kept(llama, begin):
    run, _ = begin(keep_all=False)
    run.needed = {MLP}
    run.until(None)
    assert MLP in run.seen and MLP in run.order and LAYER in run.order
    assert set(run.seen) - run.resolver.bases == {MLP}
    last = {port for port in run.seen if port != MLP}
    assert all(
        path.startswith("model.layers.2") for path, _, _ in last
    )  # the bases of earlier layers are gone


def test_patterns_fire_only_where_they_are_wanted(llama, begin):
    pattern = (llama.resolver.layer(1).attention, "pattern", 0)
    run, _ = begin(keep_all=False)
    run.until(None)
    assert pattern not in run.order
    run, _ = begin(keep_all=False)
    x = run.until(pattern)
    assert x.shape == (1, 4, 4, 4) and [p for p in run.order if p[1] == "pattern"] == [pattern]


def test_an_error_of_the_pass_is_the_bodys_and_is_remembered(begin):
    run, _ = begin()

    def fail(x):
        raise ZeroDivisionError("here")

    run.edits[MLP] = [fail]
    with pytest.raises(ZeroDivisionError):
        run.until(LAYER)
    with pytest.raises(errors.OrderError, match=r"failed already .ZeroDivisionError: here"):
        run.until(LAYER)


def test_it_lets_go_of_everything_when_it_is_stopped(begin):
    run, _ = begin()
    x = run.until(MLP)
    gone = weakref.ref(run.taps)
    run.stop()
    run.stop()
    gc.collect()
    assert gone() is None and not run.seen and not run.edits and x.shape == (1, 4, 64)
    assert run.until(LAYER) is None


def test_a_pass_whose_trace_is_gone_ends(llama):
    body = Body()
    run = Pass(llama.resolver, IDS, True, weakref.WeakMethod(body.after_waiting))
    body.enter()
    run.begin(body, None, lambda module, own: None)
    run.until(MLP)
    del body
    gc.collect()
    assert run.until(LAYER) is None and not hasattr(run, "logits")
    run.stop()


def test_a_base_that_went_by_unrecorded_is_named(llama, begin):
    run, _ = begin(keep_all=False)
    site = llama.resolver.resolve("layers.1.resid_mid")
    with pytest.raises(errors.OrderError, match=r"layers\.1\.resid_mid needs layers\.1\.resid_pre"):
        run.base(site)
    assert run.base(llama.resolver.resolve("layers.1.mlp")) is None


def test_names_of_ports():
    assert [port_name(p) for p in (MLP, ("", "output", 0), None)] == [
        "model.layers.1.mlp.output", "logits.output", "the end",
    ]  # fmt: skip


def test_arrays_are_computed_now_unless_they_are_differentiated():
    compute([mx.ones(2) + 1])

    def loss(x):
        compute([x * 2])
        return (x * 2).sum()

    assert mx.grad(loss)(mx.ones(2)).tolist() == [2.0, 2.0]
