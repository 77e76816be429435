"""Which trace a piece of code is in: nested blocks, generators, context managers, threads."""

from __future__ import annotations

import contextlib
import gc

import mlx.core as mx
import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel, errors
from mlxtrace.forward import open_traces

IDS = [3, 17, 5, 90]
OTHER = [3, 17, 66, 12]


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(models.make("llama", num_hidden_layers=2, hidden_size=16, intermediate_size=16))


def steps(model, ids):
    with model.trace(ids) as run:
        for layer in model.layers:
            layer.mlp.output[:, 1] *= 2.0
            yield layer.mlp.output.save()
    yield run.output


def alone(model, ids):
    return [np.array(x) for x in steps(model, ids)]


@pytest.mark.parametrize("order", ["ababab", "aabbab", "abbbaa", "baabba"])
def test_two_generators_each_read_their_own_pass(model, order):
    right = {"a": alone(model, IDS), "b": alone(model, OTHER)}
    running = {"a": steps(model, IDS), "b": steps(model, OTHER)}
    found = {"a": [], "b": []}
    for name in order:
        found[name].append(np.array(next(running[name])))
    for name in "ab":
        assert all(np.array_equal(x, y) for x, y in zip(found[name], right[name], strict=True)), name


def test_a_suspended_generator_is_not_the_block_of_its_caller(model):
    waiting = steps(model, OTHER)
    with model.trace(IDS) as run:
        model.layers[0].output  # noqa: B018
        next(waiting)
        mine = model.layers[1].output.save()
    assert mx.array_equal(mine, run.activations["layers.1"])
    with pytest.raises(errors.OrderError, match="open here"):
        model.layers[1].output  # noqa: B018
    assert model.net(mx.array([IDS])).shape == (1, 4, models.VOCAB)
    waiting.close()


def test_blocks_that_are_entered_for_their_caller(model):
    @contextlib.contextmanager
    def made():
        with model.trace(IDS) as run:
            yield run

    with made() as run:
        x = model.layers[1].output.save()
    assert mx.array_equal(x, run.activations["layers.1"])
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(model.trace(IDS))
        x = model.layers[1].output.save()
    assert mx.array_equal(x, run.activations["layers.1"])

    def generator():
        with made() as run, model.trace(OTHER) as inner:
            yield model.layers[0].output.save(), run, inner

    first, run, inner = next(iter(list(generator())))
    assert mx.array_equal(first, inner.activations["layers.0"])
    assert not mx.array_equal(first, run.activations["layers.0"])


def test_outside_a_trace_there_are_no_activations(model):
    for read in (lambda: model.output, lambda: model.layers[0].mlp.output, lambda: model.layers[0].input):
        with pytest.raises(errors.OrderError, match="inside"):
            read()
    with pytest.raises(errors.OrderError), InterpretableModel(models.make("gpt2")).trace(IDS):
        model.layers[0].output  # noqa: B018


def test_the_innermost_of_the_blocks_here(model):
    assert open_traces.here() == []
    with model.trace(IDS) as outer:
        assert open_traces.here(model.net) == [outer] and open_traces.here(object()) == []
        with model.trace(OTHER) as inner:
            assert open_traces.here() == [outer, inner] and open_traces.current(model.net) is inner
        assert open_traces.current(model.net) is outer
        with model.trace():  # without a pass of its own
            assert open_traces.current(model.net) is outer
    assert open_traces.here() == []


def test_a_trace_that_is_gone_is_forgotten(model):
    with model.trace(IDS) as trace:
        pass
    open_traces.add(trace)
    assert len(open_traces._open.get()) == 1 and open_traces.here() == []
    del trace
    gc.collect()
    with model.trace(IDS) as other:
        assert [ref() for ref in open_traces._open.get()] == [other]


def test_frames_of_generators_are_found_through_functions():
    def inner():
        return open_traces.generators()

    def steps():
        yield inner()
        yield inner()

    running = steps()
    first, second = next(running), next(running)
    assert len(first) == 1 and first == second and open_traces.generators() == frozenset()
    assert next(iter(first)).f_code.co_name == "steps"
