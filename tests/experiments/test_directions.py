"""Directions: means of raw activations, at every kind of site, and what is refused."""

import mlx.core as mx
import mlx.nn as nn
import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel
from mlxtrace import interventions as iv
from mlxtrace.errors import EffectError, InputError, SiteError, UnsupportedError

POSITIVE, NEGATIVE = [[3, 5, 9, 2], [8, 1, 4], [7, 7, 2, 6, 5]], [[11, 12, 13], [14, 15, 16, 17]]


def raw(model, site, ids):
    with model.trace(ids) as trace:
        pass
    return np.array(trace.activations[site].astype(mx.float32), dtype=np.float64)[0]


def mean_last(model, site, prompts):
    return np.mean([raw(model, site, ids)[-1] for ids in prompts], axis=0)


@pytest.mark.parametrize(
    "site",
    ["layers.1", "layers.1.mlp", "layers.0.attn", "layers.2.head", "layers.1.k", "layers.1.neuron", "norm"],
)
def test_it_is_the_difference_of_means(llama, site):
    found = llama.direction(POSITIVE, NEGATIVE, site)
    right = mean_last(llama, site, POSITIVE) - mean_last(llama, site, NEGATIVE)
    assert found.shape == right.shape and found.vector.dtype == mx.float32
    np.testing.assert_allclose(np.array(found.vector), right, atol=1e-5)
    assert found.norm == pytest.approx(np.linalg.norm(right), rel=1e-5)


def test_several_positions_are_averaged_before_prompts(llama):
    found = llama.direction(POSITIVE, NEGATIVE, "layers.1", positions=None)
    ends = [
        np.mean([raw(llama, "layers.1", ids).mean(0) for ids in of], axis=0) for of in (POSITIVE, NEGATIVE)
    ]
    np.testing.assert_allclose(np.array(found.vector), ends[0] - ends[1], atol=1e-5)


def test_a_prompt_that_is_given_twice_counts_twice_but_is_held_out_once(llama):
    twice = llama.direction([*POSITIVE, POSITIVE[0]], [*NEGATIVE, [20, 21]], "layers.1")
    right = mean_last(llama, "layers.1", [*POSITIVE, POSITIVE[0]]) - mean_last(
        llama, "layers.1", [*NEGATIVE, [20, 21]]
    )
    np.testing.assert_allclose(np.array(twice.vector), right, atol=1e-5)
    once = llama.direction(POSITIVE, [*NEGATIVE, [20, 21]], "layers.1")
    assert twice.separation == once.separation is not None


def test_some_heads_leave_the_others_at_zero(llama):
    whole = np.array(llama.direction(POSITIVE, NEGATIVE, "layers.1.head").vector)
    some = np.array(llama.direction(POSITIVE, NEGATIVE, "layers.1.head", heads=[-1, 0]).vector)
    assert (some[[0, -1]] == whole[[0, -1]]).all() and not some[1:-1].any()


def test_by_head_it_is_added_head_by_head(llama):
    step = llama.direction(POSITIVE, NEGATIVE, "layers.1.head")
    for positions in (None, -1):
        with llama.trace(NEGATIVE[0], {"layers.1.head": iv.add_vector(2 * step, positions)}) as trace:
            pass
        moved = raw(llama, "layers.1.head", NEGATIVE[0])
        moved[slice(None) if positions is None else positions] += 2 * np.array(step.vector)
        np.testing.assert_allclose(np.array(trace.activations["layers.1.head"])[0], moved, atol=1e-5)


@pytest.mark.parametrize("options", [{"quantize": 4}, {"dtype": "bfloat16"}])
def test_quantized_and_half_precision_models(options):
    dtype = options.pop("dtype", None)
    model = InterpretableModel(models.make("llama", **options), dtype=dtype)
    found = model.direction(POSITIVE, NEGATIVE, "layers.1.mlp")
    right = mean_last(model, "layers.1.mlp", POSITIVE) - mean_last(model, "layers.1.mlp", NEGATIVE)
    np.testing.assert_allclose(np.array(found.vector), right, atol=1e-5)
    with model.trace(NEGATIVE[0], {"layers.1.mlp": iv.add_vector(found, -1)}) as trace:
        pass
    assert trace.activations["layers.1.mlp"].dtype == (mx.bfloat16 if dtype else mx.float32)


def test_what_makes_no_direction_is_refused(llama):
    with pytest.raises(InputError, match="closest: mean_difference"):
        llama.direction(POSITIVE, NEGATIVE, "layers.1", method="pca")
    with pytest.raises(UnsupportedError, match="no direction in it"):
        llama.direction(POSITIVE, NEGATIVE, "layers.1.pattern")
    with pytest.raises(SiteError, match="closest"):
        llama.direction(POSITIVE, NEGATIVE, "blocks.1.hook_resid_post")
    with pytest.raises(InputError, match="split by head"):
        llama.direction(POSITIVE, NEGATIVE, "layers.1", heads=0)
    with pytest.raises(EffectError, match="do not differ yet"):
        llama.direction([[1, 2, 3]], [[1, 2, 4]], "layers.2", positions=1)


def test_activations_that_are_not_finite_are_refused_with_the_prompt():
    net = models.make("llama")
    net.model.embed_tokens.weight[12] = float("inf")
    with pytest.raises(EffectError, match=r"prompt 0 of negative: .* NaN or infinite in"):
        InterpretableModel(net).direction(POSITIVE, NEGATIVE, "layers.1")


def test_a_difference_that_may_be_rounding_is_said():
    net = models.make("llama")
    table = net.model.embed_tokens.weight
    table[2] = table[1] * 1.001
    found = InterpretableModel(net).direction([[5, 1]], [[5, 2]], "embed")
    assert any("may be rounding" in note for note in found.notes) and "may be rounding" in repr(found)


def test_a_model_that_was_quantized_since_is_looked_at_anew():
    model = InterpretableModel(models.make("llama"))
    model.direction(POSITIVE, NEGATIVE, "layers.1.mlp")
    nn.quantize(model.net, group_size=32, bits=4)
    found = model.direction(POSITIVE, NEGATIVE, "layers.1.mlp")
    right = InterpretableModel(model.net).direction(POSITIVE, NEGATIVE, "layers.1.mlp")
    assert (found.values == right.values).all()
