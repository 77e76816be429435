"""The law of gradients, on models that estimate something else than they say, and on every architecture."""

from __future__ import annotations

import mlx.core as mx
import models
import more_models
import numpy as np
import pytest

from mlxtrace import InterpretableModel
from mlxtrace.laws.gradient_laws import SIZES, Effects, _best, small_changes
from mlxtrace.laws.law import DoesNotApply
from mlxtrace.laws.model_under_test import ModelUnderTest

REFUSED = {"afm7": "finite differences", "deepseek_v41": "Cannot calculate VJP with respect to indices"}
NEEDS_METAL = ("bitnet", "muse_spark")


class OneLayerLater(InterpretableModel):
    """Its estimates are those of the next layer."""

    def attribution_patching(self, *arguments, **options):
        options["layers"] = (options["layers"] + 1) % self.n_layers
        return InterpretableModel.attribution_patching(self, *arguments, **options)


class TwiceTheChange(InterpretableModel):
    """Its estimates are twice as large."""

    def attribution_patching(self, *arguments, **options):
        result = InterpretableModel.attribution_patching(self, *arguments, **options)
        result.raw = result.raw + result.scores
        return result


class Turned(InterpretableModel):
    """Its estimates are of the other direction."""

    def attribution_patching(self, *arguments, **options):
        options["direction"] = {"denoise": "noise", "noise": "denoise"}[options["direction"]]
        return InterpretableModel.attribution_patching(self, *arguments, **options)


def test_it_holds():
    found = small_changes(ModelUnderTest(InterpretableModel(models.make("llama"))))
    assert found.error < found.tolerance / 2


@pytest.mark.parametrize("kind", [OneLayerLater, TwiceTheChange, Turned])
def test_estimates_of_something_else_are_seen(kind):
    found = small_changes(ModelUnderTest(kind(models.make("llama", num_hidden_layers=2))))
    assert found.error > found.tolerance


def test_it_says_why_it_does_not_apply():
    with pytest.raises(DoesNotApply, match="half precision"):
        small_changes(ModelUnderTest(InterpretableModel(models.make("llama", dtype=mx.bfloat16))))
    with pytest.raises(DoesNotApply, match="refused: the gradients of this model are not to be trusted"):
        small_changes(ModelUnderTest(InterpretableModel(more_models.make("afm7"))))


def sizes(exact, estimated):
    """The effects of two components, of which the first one's are straight and as estimated."""
    for size in SIZES:
        yield Effects(size, np.array([[size], [exact(size)]]), np.array([[size], [estimated(size)]]), 1e-5)


def test_steps_are_told_from_slopes():
    """Past a step there is no slope to compare with; a wrong slope is one before the step, and without one."""
    step = lambda size: float(size >= 0.03)  # noqa: E731
    assert _best(["a", "b"], sizes(step, lambda size: 0.001 * size)) == ({"a": 0}, ["b"])
    found, steps = _best(["a", "b"], sizes(lambda size: size + step(size), lambda size: 0.5 * size))
    assert found["b"] == pytest.approx(0.48, abs=0.02) and not steps
    assert _best(["a", "b"], sizes(lambda size: size, lambda size: 0))[0]["b"] == pytest.approx(1, abs=0.02)
    assert _best(["a", "b"], sizes(step, lambda size: np.nan))[0]["b"] == np.inf


def test_curved_effects_count_where_they_are_straight():
    found, steps = _best(["a", "b"], sizes(lambda size: size + 30 * size**2, lambda size: size))
    assert found["b"] < 0.03 and not steps


@pytest.mark.heavy
def test_a_model_that_chooses_other_experts():
    """The router's effects of noise small enough to choose the same experts are less than the logits' movement."""
    sizes = {"num_hidden_layers": 8, "hidden_size": 128, "intermediate_size": 128, "vocab_size": 512}
    own = {
        "num_key_value_heads": 2,
        "mamba_d_conv": 4,
        "mamba_d_state": 32,
        "mamba_dt_rank": 8,
        "num_experts": 4,
    }
    arguments = models.config("jamba", **sizes, **own, num_experts_per_tok=2, tie_word_embeddings=True)
    found = small_changes(ModelUnderTest(InterpretableModel(more_models.build("jamba", arguments))))
    assert found.error < found.tolerance and "router" in found.note, found


@pytest.mark.heavy
@pytest.mark.parametrize("name", [*models.NAMES, *more_models.MORE])
def test_every_architecture_is_right_or_refused(name):
    if name in NEEDS_METAL and not mx.metal.is_available():
        pytest.skip("it runs on Metal only")
    make = models.make if name in models.CONFIGS else more_models.make
    tested = ModelUnderTest(InterpretableModel(make(name)))
    if name in REFUSED:
        with pytest.raises(DoesNotApply, match=REFUSED[name]):
            small_changes(tested)
    else:
        found = small_changes(tested)
        assert found.error <= found.tolerance, found
