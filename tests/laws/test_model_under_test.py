"""The model under test: its prompts, which layers have what, and the runs that the laws share."""

from __future__ import annotations

import mlx.core as mx
import models
import pytest
from faulty_models import Model

from mlxtrace import InterpretableModel
from mlxtrace.laws.law import DoesNotApply
from mlxtrace.laws.model_under_test import DIFFERENT, LENGTH, ModelUnderTest


@pytest.fixture(scope="module")
def tested():
    return ModelUnderTest(InterpretableModel(models.make("llama")))


def test_the_prompts_differ_where_they_are_said_to(tested):
    assert len(tested.ids) == len(tested.other) == LENGTH
    assert [i for i in range(LENGTH) if tested.ids[i] != tested.other[i]] == list(DIFFERENT)


def test_layers_of_each_kind_are_looked_at():
    mixed = ModelUnderTest(InterpretableModel(models.make("jamba")))
    kinds = {tuple(mixed.site_exists(c, i) for c in mixed.components): i for i in mixed.all_layers}
    assert len(mixed.middles) == len(kinds) > 1
    assert mixed.middles <= set(mixed.layers) and {0, mixed.model.n_layers - 1} <= set(mixed.layers)


def test_components_are_those_of_the_table_in_its_order(tested):
    assert tested.components[0] == "resid_pre" and tested.components[-1] == "resid_post"
    assert {f"layers.1.{c}" for c in tested.components} <= set(tested.resolver.table)


def test_layers_that_lack_something(tested):
    assert tested.layers_with("mlp", "head") == tested.layers
    assert tested.layers_with("mlp", layers=[1]) == [1]
    assert tested.components_in_all(["mlp", "nothing", "attn"], [0, 1]) == ["mlp", "attn"]
    with pytest.raises(DoesNotApply, match="no component of"):
        tested.components_in_all(["mlp"], [0, 99])
    recurrent = ModelUnderTest(InterpretableModel(models.make("mamba")))
    with pytest.raises(DoesNotApply, match="makes no call"):
        recurrent.layers_with("pattern")


def test_first_middle_and_last_layers(tested):
    assert tested.first_middle_last() == [0, 1, 2] and tested.middle_last() == [1, 2]
    net = models.make("llama", num_hidden_layers=1)
    alone = ModelUnderTest(InterpretableModel(net))
    assert alone.first_middle_last() == alone.middle_last() == alone.layers == [0]


def test_runs(tested):
    plain = tested.plain(tested.ids)
    assert mx.array_equal(tested.base.output, plain)
    assert not mx.array_equal(tested.source.output, plain)
    edited = tested.traced({"layers.1.mlp": tested.source.activations["layers.1.mlp"]}, ["layers.1.mlp"])
    assert mx.array_equal(edited.activations["layers.1.mlp"], tested.source.activations["layers.1.mlp"])
    other = models.make("llama", seed=3)
    assert mx.array_equal(tested.plain(tested.ids, other), other(mx.array([tested.ids])))


def test_projections(tested):
    assert tested.attention_projected_as_is == {0, 1, 2}
    assert ModelUnderTest(InterpretableModel(Model())).attention_projected_as_is == {0, 1, 2}
