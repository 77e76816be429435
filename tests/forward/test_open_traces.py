"""Which trace a piece of code is in: nested blocks, generators, context managers, threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import sys

import mlx.core as mx
import mlx_lm
import models
import numpy as np
import pytest
from mlx_lm.tokenizer_utils import TokenizerWrapper
from mlx_lm.tuner.trainer import default_loss

from mlxtrace import InterpretableModel, errors
from mlxtrace import interventions as iv
from mlxtrace.forward import open_traces
from mlxtrace.text.decoder import Decoder

mlx_lm_generate = sys.modules["mlx_lm.generate"]  # `mlx_lm.generate` is the function
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


# ---- what runs the model beside the trace


def parts(model):
    """Calls by hand of modules: which of them make the MLP's call in layer 1."""
    net, x = model.net, mx.ones((1, 4, model.d_model))
    return {
        "the MLP": (lambda: net.model.layers[1].mlp(x), True),
        "its layer": (lambda: net.model.layers[1](x, None, None), True),
        "a part of it": (lambda: net.model.layers[1].mlp.up_proj(x), False),
        "another layer": (lambda: net.model.layers[0](x, None, None), False),
        "norm and head": (lambda: net.lm_head(net.model.norm(x)), False),
    }


EDITS = {"layers.1.mlp": iv.scale(2)}


@contextlib.contextmanager
def declared(model, prompt=IDS):
    with model.trace(prompt, EDITS) as run:
        yield run


@contextlib.contextmanager
def in_the_body(model):
    with model.trace(IDS) as run:
        model.layers[1].mlp.output[:, 1] = 0.0
        yield run


@contextlib.contextmanager
def gone_by(model):
    with in_the_body(model) as run:
        model.layers[1].output  # noqa: B018
        yield run


@contextlib.contextmanager
def invoked(model):
    with model.trace() as outer, outer.invoke(IDS, EDITS) as run:
        yield run


@contextlib.contextmanager
def two_lengths(model):
    with model.trace([IDS, IDS[:3]], EDITS) as run:
        yield run


@contextlib.contextmanager
def nested(model):
    with declared(model) as run, model.trace(OTHER):
        yield run


BLOCKS = [declared, in_the_body, gone_by, invoked, two_lengths, nested]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.__name__)
def test_parts_called_by_hand_get_no_edits_so_edited_ones_are_refused(model, block):
    right = {name: np.array(act()) for name, (act, _) in parts(model).items()}
    for name, (act, edited) in parts(model).items():
        if edited:
            with pytest.raises(errors.OrderError, match="by hand"), block(model):
                act()
        else:
            with block(model):
                assert np.array_equal(act(), right[name]), name
        assert np.array_equal(act(), right[name]), name


def runs(model):
    """Everything that runs the model as a whole, or asks for passes of it."""
    ids = mx.array([IDS])
    return {
        "the net": lambda: model.net(ids),
        "its body": lambda: model.net.model(ids),
        "compiled": lambda: mx.compile(lambda x: model.net(x))(ids),
        "a copied context": lambda: contextvars.copy_context().run(model.net, ids),
        "another thread in this context": lambda: asyncio.run(asyncio.to_thread(model.net, ids)),
        "generate_step": lambda: next(mlx_lm_generate.generate_step(ids[0], model.net)),
        "mlx_lm.generate": lambda: mlx_lm.generate(model.net, WORDS, IDS, max_tokens=1),
        "stream_generate": lambda: next(mlx_lm.stream_generate(model.net, WORDS, IDS, max_tokens=1)),
        "batch_generate": lambda: mlx_lm_generate.batch_generate(model.net, WORDS, [IDS], max_tokens=1),
        "a loss": lambda: default_loss(model.net, mx.array([IDS]), mx.array([[0, 3]])),
        "model.generate": lambda: model.generate(IDS, 1),
        "of another holder": lambda: InterpretableModel(model.net).generate(IDS, 1),
        "a sweep": lambda: model.activation_patching(
            OTHER, IDS, "mlp", target=5, foil=6, metric="logit_diff"
        ),
        "a trace of facts": lambda: model.causal_trace(IDS, [2, 3], target=5, samples=1),
        "effects": lambda: model.causal_effects(OTHER, IDS, "mlp", target=5, foil=6),
        "gradients": lambda: model.attribution_patching(OTHER, IDS, "mlp", target=5, foil=6),
        "paths": lambda: model.path_patching(OTHER, IDS, [(0, 0)], target=5, foil=6),
    }


WORDS = TokenizerWrapper(Decoder(lambda ids: "".join(f"<{i}>" for i in ids)))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.__name__)
def test_runs_of_the_model_inside_a_trace_with_edits_are_refused(model, block):
    """Each would go without the trace's edits."""
    for name, act in runs(model).items():
        with pytest.raises(errors.OrderError, match=r"(in|out)side"), block(model):
            act()
        assert open_traces.here() == [], name


def test_they_run_outside(model):
    for name, act in runs(model).items():
        assert act() is not None, name


def test_a_pass_of_its_own_may_be_traced_inside(model):
    right, cache = model.run_with_cache(OTHER)
    with declared(model), model.trace(OTHER) as inner:
        x = model.layers[1].mlp.output.save()
    assert mx.array_equal(inner.output, right) and mx.array_equal(x, cache["layers.1.mlp"])
    with declared(model):
        assert mx.array_equal(model.run_with_cache(OTHER)[0], right)
