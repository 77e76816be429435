"""The law of gradients, on models that estimate something else than they say, and on every architecture."""

from __future__ import annotations

import mlx.core as mx
import models
import more_models
import pytest

from mlxtrace import InterpretableModel
from mlxtrace.laws.gradient_laws import small_changes
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
    found = small_changes(ModelUnderTest(kind(models.make("llama"))))
    assert found.error > found.tolerance


def test_it_says_why_it_does_not_apply():
    with pytest.raises(DoesNotApply, match="half precision"):
        small_changes(ModelUnderTest(InterpretableModel(models.make("llama", dtype=mx.bfloat16))))
    with pytest.raises(DoesNotApply, match="refused: the gradients of this model are not to be trusted"):
        small_changes(ModelUnderTest(InterpretableModel(more_models.make("afm7"))))


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
