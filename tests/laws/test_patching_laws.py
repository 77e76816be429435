"""The laws of activation patching, on a model whose experiments patch something else than they say."""

from __future__ import annotations

import functools

import pytest
from faulty_models import Model, misreporting, seen

from mlxtrace import InterpretableModel
from mlxtrace.laws import patching_laws
from mlxtrace.laws.model_under_test import ModelUnderTest


@functools.cache
def fails_on_a_sound_model(law):
    return seen(law, Model())


def swapped_direction(name, arguments, options):
    return arguments, {**options, "direction": {"denoise": "noise", "noise": "denoise"}[options["direction"]]}


def one_layer_wider(name, arguments, options):
    return arguments, {**options, "window": options["window"] + 1}


def another_position(name, arguments, options):
    if isinstance(options.get("positions"), list):
        options["positions"] = [p - 1 for p in options["positions"]]
    return arguments, options


def swapped_prompts(name, arguments, options):
    return (arguments[1], arguments[0], *arguments[2:]), options


@pytest.mark.parametrize(
    ("law", "change"),
    [
        (patching_laws.denoise, swapped_direction),
        (patching_laws.denoise, another_position),
        (patching_laws.noising, swapped_direction),
        (patching_laws.noising, swapped_prompts),
        (patching_laws.windows, one_layer_wider),
        (patching_laws.windows, another_position),
        (patching_laws.single_heads, another_position),
        (patching_laws.ends, swapped_direction),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_an_experiment_that_does_something_else(law, change):
    assert not fails_on_a_sound_model(law)
    assert seen(law, misreporting(Model(), change))


class HeadsInReverse(InterpretableModel):
    """Its heads are reported in reverse."""

    def activation_patching(self, *arguments, **options):
        result = InterpretableModel.activation_patching(self, *arguments, **options)
        if "head" in result.dims:
            result.raw = result.raw[..., ::-1]
        return result


def test_heads_in_another_order():
    assert seen(patching_laws.single_heads, HeadsInReverse(Model()))


class PairedOtherwise(InterpretableModel):
    """Its positions are labelled one too late."""

    def activation_patching(self, *arguments, **options):
        result = InterpretableModel.activation_patching(self, *arguments, **options)
        result.coords["position"] = [p + 1 for p in result.coords["position"]]
        return result


def test_positions_that_are_paired_otherwise():
    found = patching_laws.ends(ModelUnderTest(PairedOtherwise(Model())))
    assert found.error > found.tolerance and "paired positions" in found.note


class NeuronsInReverse(InterpretableModel):
    """Its neurons are reported in reverse."""

    def activation_patching(self, *arguments, **options):
        result = InterpretableModel.activation_patching(self, *arguments, **options)
        if "neuron" in result.dims:
            result.raw = result.raw[..., ::-1]
        return result


class OneNeuron(InterpretableModel):
    """Of several neurons that are to be patched together it patches the first."""

    def activation_patching(self, *arguments, **options):
        if isinstance(options.get("neurons"), list):
            options["neurons"] = options["neurons"][:1]
        return InterpretableModel.activation_patching(self, *arguments, **options)


@pytest.mark.parametrize("kind", [NeuronsInReverse, OneNeuron])
def test_single_neurons(kind):
    assert seen(patching_laws.single_heads, kind(Model()))
