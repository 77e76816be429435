"""Prompts of several lengths in one trace: the numbers of each alone, one body for all, the model as it was."""

from __future__ import annotations

import mlx.core as mx
import models
import numpy as np
import pytest
from group_runs import MIXED, A, B, C, plain, untouched  # noqa: F401
from noise import close

from mlxtrace import InterpretableModel, errors
from mlxtrace import interventions as iv
from mlxtrace.forward.group_trace import GroupCache, GroupTrace, trace_of
from mlxtrace.forward.groups import Groups
from mlxtrace.forward.trace import Trace

# ---- the numbers


ARCHITECTURES = [
    ("llama", None),
    ("llama", 4),
    ("gpt2", None),
    ("mixtral", None),
    ("mamba", None),
    ("jamba", None),
]


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda x: f"{x[0]}{x[1] or ''}")
def any_model(request):
    name, bits = request.param
    return InterpretableModel(models.make(name, quantize=bits))


def test_an_untouched_trace_gives_each_prompt_what_it_gives_alone(any_model):
    with any_model.trace(MIXED) as trace:
        pass
    groups = {tokens: array for _, array, tokens in trace.output.groups}
    assert mx.array_equal(groups[7], plain(any_model, [A, C]))
    assert mx.array_equal(groups[9], plain(any_model, [B]))
    for i, prompt in enumerate(MIXED):
        logits, cache = any_model.run_with_cache(prompt)
        close(trace.output[i], logits[0], any_model)
        for name in list(trace.activations)[::5]:
            close(trace.activations[name][i], cache[name][0], any_model)


def edit(model, at):
    """What a user writes for prompts of any lengths, and for one: the first axis of each array is the prompts."""
    last = model.layers[0].output[:, -1]
    last *= 1.5
    model.layers[1].input[:, 2:4] += mx.arange(model.d_model) / model.d_model
    h = model.layers[1].output
    h[at][4] = h[at][0]
    h[at, 3] *= 0.5
    h[at, -2, ::2] = 0.25
    return last


def test_the_edits_of_a_body_do_to_each_prompt_what_they_do_to_it_alone(any_model):
    with any_model.trace(MIXED) as trace:
        last = edit(any_model, 1)
    for i, prompt in enumerate(MIXED):
        with any_model.trace([prompt, prompt]) as alone:
            edit(any_model, 0 if i == 1 else 1)
        close(trace.output[i], alone.output[0], any_model)
        close(trace.activations["layers.1"][i], alone.activations["layers.1"][0], any_model)
        close(last[i], alone.activations["layers.0"][0, -1], any_model)


@pytest.mark.parametrize("edited", [0, 1, 2])
def test_an_edit_of_one_prompt_changes_no_other(any_model, edited):
    with any_model.trace(MIXED) as before:
        pass
    with any_model.trace(MIXED) as after:
        any_model.layers[1].output[edited] *= 3.0
    for i in range(3):
        if i == edited:
            assert not mx.allclose(after.output[i], before.output[i], atol=1e-3)
        elif len(MIXED[i]) != len(MIXED[edited]):
            assert mx.array_equal(after.output[i], before.output[i])
        else:
            close(after.output[i], before.output[i], any_model)


@pytest.mark.parametrize("site", ["q", "k", "v", "head", "resid_mid", "neuron", "pattern"])
def test_every_site_is_by_prompt(gpt2, site):
    with gpt2.trace(MIXED) as trace:
        x = getattr(gpt2.layers[1], site).output
        shapes = [a.shape for a in x]
        x[1][..., 0] = 0.5
    for i, prompt in enumerate(MIXED):
        with gpt2.trace(prompt) as alone:
            y = getattr(gpt2.layers[1], site).output
            assert y.shape[1:] == shapes[i]
            if i == 1:
                y[..., 0] = 0.5
        close(trace.output[i], alone.output[0], gpt2)


def test_declared_interventions_and_the_body_mix(llama):
    edits = {"layers.0.mlp": iv.scale(0.5), "layers.1": iv.zero_at(-1)}
    with llama.trace(MIXED, interventions=edits) as trace:
        seen = llama.layers[1].output[:, -1]
        llama.layers[2].mlp.output *= 2.0
    assert not seen.any().item()
    for i, prompt in enumerate(MIXED):
        with llama.trace(prompt, interventions={**edits, "layers.2.mlp": iv.scale(2.0)}) as alone:
            pass
        close(trace.output[i], alone.output[0], llama)


def test_gradients_reach_the_edit_of_each_prompt(llama):
    def loss(delta):
        with llama.trace(MIXED, cache=False) as trace:
            llama.layers[1].output[:, -2] += delta
        return trace.output[:, -1, 5].sum()

    delta = mx.zeros((3, 64))
    slope = mx.grad(loss)(delta)
    for i in range(3):
        step = mx.zeros((3, 64))
        step[i, 10] = 1e-2
        measured = (loss(step) - loss(-step)) / 2e-2
        assert abs(slope[i, 10].item() - measured.item()) < 2e-3


# ---- which lists are groups


def test_one_length_is_one_batch_and_several_are_groups(llama):
    assert (
        type(llama.trace([A, C])) is Trace
        and type(llama.trace([A])) is Trace
        and type(llama.trace(A)) is Trace
    )
    assert type(llama.trace(MIXED)) is GroupTrace
    with llama.trace([A, C]) as trace:
        h = llama.layers[1].output.save()
        h[:, -1] = mx.zeros((2, 64))
        llama.layers[2].mlp.output = [
            mx.zeros((7, 64)),
            mx.ones((7, 64)),
        ]  # as where there are several lengths
    assert isinstance(h, mx.array) and h.shape == (2, 7, 64) and trace.output.shape == (2, 7, models.VOCAB)
    found = trace.activations["layers.2.mlp"]
    assert not found[0].any().item() and (found[1] == 1).all().item()
    with (
        pytest.raises(errors.EditError, match="2 prompts of one length: 3 values for 2"),
        llama.trace([A, C]),
    ):
        llama.layers[2].mlp.output = [0.0, 1.0, 2.0]
    assert type(trace_of(llama.resolver, None, llama.trace)) is Trace


def test_run_with_cache(llama):
    logits, cache = llama.run_with_cache(MIXED, sites=["layers.1.mlp", "layers.2.resid_mid"])
    assert isinstance(logits, Groups) and isinstance(cache, GroupCache)
    assert list(cache) == list(llama.run_with_cache(A, sites=["layers.1.mlp", "layers.2.resid_mid"])[1])
    assert "layers.0.mlp" not in cache and len(dict(cache)) == len(cache)
    for i, prompt in enumerate(MIXED):
        one, kept = llama.run_with_cache(prompt, sites=["layers.1.mlp", "layers.2.resid_mid"])
        close(logits[i], one[0], llama)
        for name in ("layers.1.mlp", "layers.2.resid_mid"):
            close(cache[name][i], kept[name][0], llama)
    assert cache.nbytes == sum(x.nbytes for *_, each in cache.groups for x in each.arrays())


def test_what_is_called_once_a_token_is_listed_as_often_as_for_the_shortest():
    model = InterpretableModel(models.make("mamba"))
    _, cache = model.run_with_cache([B, A])
    assert len(list(cache)) == len(cache) == len(model.run_with_cache(A)[1]) < len(model.run_with_cache(B)[1])
    assert all(len(cache[name]) == 2 for name in cache)


def test_what_a_cache_of_several_lengths_cannot_do_it_says(llama, tmp_path):
    _, cache = llama.run_with_cache(MIXED)
    with pytest.raises(errors.InputError, match=r"cache\.save"):
        cache.save(tmp_path / "x.safetensors")
    with pytest.raises(errors.SiteError, match="closest"):
        cache["layers.1.mpl"]
    with pytest.raises(errors.SiteError, match=r"layers\.99"):
        cache["layers.99"]
    assert "2 groups" in repr(cache)
    for _, tokens, each in cache.groups:
        each.save(tmp_path / f"{tokens}.safetensors")
    cache["layers.1"][0] = 5.0  # a handle of its own, as in an ActivationCache
    assert not (cache["layers.1"][0] == 5).all().item()


def test_half_precision_stays_so():
    model = InterpretableModel(models.make("llama", dtype=mx.float16))
    with model.trace(MIXED) as trace:
        model.layers[1].mlp.output += np.ones(64, np.float32)
        model.layers[1].output[:, -1] = mx.zeros((3, 64), mx.float32)
        model.layers[2].output = [mx.zeros(x.shape) for x in model.layers[2].output]
    assert trace.output.dtype == mx.float16 and trace.activations["layers.1"].dtype == mx.float16


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_caches_reach_numpy_prompt_by_prompt(dtype):
    model = InterpretableModel(models.make("llama"), dtype=dtype)
    asked = [[3, 5, 8], [3, 5, 8, 9], [4, 5, 8]]
    _, cache = model.run_with_cache(asked)
    found = cache.numpy("layers.1.mlp")
    assert [x.shape for x in found] == [(3, 64), (4, 64), (3, 64)]
    for x, ids in zip(found, asked, strict=True):
        alone = model.run_with_cache(ids)[1].numpy("layers.1.mlp")[0]
        assert x.dtype == np.float32
        if dtype == "float32":
            close(x, alone, model)
        else:
            assert np.allclose(x, alone, atol=0.1)
    with pytest.raises(KeyError):
        cache.numpy("layers.9.mlp")
