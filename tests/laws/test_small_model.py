"""The law of the small model: what does not hold there is named, whatever model is checked."""

from __future__ import annotations

import mlx.nn as nn
import pytest
from faulty_models import Model

from mlxtrace import InterpretableModel
from mlxtrace.laws.law import DoesNotApply, Measurement, law
from mlxtrace.laws.model_under_test import ModelUnderTest
from mlxtrace.laws.small_model import grouped_heads_in_4_bits, small_model_law


@law("it holds", "")
def holding(tested):
    return Measurement(0.0, 0.0)


@law("it is wrong", "")
def wrong(tested):
    return Measurement(0.5, 0.1, "here")


@law("it raises", "")
def raising(tested):
    raise DoesNotApply("no")


@pytest.fixture(scope="module")
def tested():
    return ModelUnderTest(InterpretableModel(Model()))


def test_what_does_not_hold_is_named(tested):
    assert small_model_law([holding])(tested) == Measurement(0.0, 0.0, "1 laws, 4 bits, grouped heads")
    found = small_model_law([holding, wrong, raising])(tested)
    assert found.error == 2 and found.note == "it is wrong (0.5; here); it raises (inf; DoesNotApply: no)"


def test_the_laws_are_measured_on_the_small_model_once(tested):
    seen = []

    @law("what it is measured on", "")
    def looking(model):
        seen.append(model)
        return Measurement(0.0, 0.0)

    made = small_model_law([looking])
    made(tested), made(tested)
    assert len(seen) == 1 and seen[0].model.is_quantized and type(seen[0].model) is InterpretableModel


def test_the_small_model_is_always_the_same():
    nets = [grouped_heads_in_4_bits() for _ in range(2)]
    assert isinstance(nets[0].model.embed_tokens, nn.QuantizedEmbedding)
    a, b = (net.model.layers[0].self_attn.q_proj.weight for net in nets)
    assert (a == b).all().item()
    attention = nets[0].model.layers[0].self_attn
    assert (attention.n_heads, attention.n_kv_heads, len(nets[0].layers)) == (4, 2, 5)
