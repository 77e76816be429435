"""The parts of a model by path: layers, embedding, norm, and modules that stand in several places."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import models
import pytest

from mlxtrace import InterpretableModel, errors
from mlxtrace.anatomy.model_parts import ModelParts, inventory


def test_getters():
    net = models.make("llama")
    parts = ModelParts(net)
    assert parts.get_layers() == net.model.layers and parts.n_layers == 3
    assert parts.get_embedding_layer() is net.model.embed_tokens
    assert parts.get_final_norm() is net.model.norm
    assert parts.path_of(net.model.layers[2].mlp) == "model.layers.2.mlp"
    assert parts.slots == {f"model.layers.{i}": 0 for i in range(3)}
    assert parts.attends == {f"model.layers.{i}.self_attn" for i in range(3)}


@pytest.mark.parametrize("index", [3, -4, 99])
def test_layers_that_are_not_there(index):
    parts = ModelParts(models.make("llama"))
    for ask in (parts.layer, parts.n_heads):
        with pytest.raises(errors.PositionError, match="layers 0 to 2"):
            ask(index)


def test_a_module_in_two_places_has_one_path():
    net = models.make("llama")
    net.alias = net.model
    parts = ModelParts(net)
    assert parts.first_path("model.layers.1.mlp") == parts.first_path("alias.layers.1.mlp")
    assert len(parts.modules) == len({id(module) for module in net.modules()})
    assert set(parts.modules) < set(parts.paths)


class Breaks(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(4, 4)]

    def __call__(self, tokens, cache=None):
        raise ValueError("wants pictures")


@pytest.mark.parametrize("made", [ModelParts, InterpretableModel])
def test_a_model_that_cannot_be_run_is_refused_when_it_is_loaded(made):
    with pytest.raises(errors.LoadError, match="wants pictures"):
        made(Breaks())


def test_no_norm_is_said():
    net = models.make("llama")
    parts = ModelParts(net)
    object.__setattr__(parts.structure, "norm", None)
    with pytest.raises(errors.UnsupportedError, match="no final norm"):
        parts.get_final_norm()


def small():
    return nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.1), nn.Linear(3, 2, bias=False)).eval()


def test_every_module_and_every_array_is_in_it():
    net = small()
    modules, arrays = inventory(net)
    assert sorted(modules) == sorted(id(module) for _, module in net.named_modules())
    assert sorted(shape for _, _, shape in arrays) == [(2, 3), (3,), (3, 2)]
    net._hidden = mx.zeros(5)
    assert inventory(net) == (modules, arrays)


def test_another_module_another_array_and_another_dtype_are_seen():
    net = small()
    modules, arrays = inventory(net)
    net.layers[2].weight = mx.array(net.layers[2].weight)
    assert inventory(net)[0] == modules
    assert inventory(net)[1] != arrays
    net.layers[2] = nn.Linear(3, 2, bias=False)
    assert inventory(net)[0] != modules
    before = inventory(net)[1]
    net.set_dtype(mx.float16)
    assert {dtype for _, dtype, _ in before} != {dtype for _, dtype, _ in inventory(net)[1]}


def test_a_dropout_that_acts_is_refused():
    with pytest.raises(errors.LoadError, match=r"dropout \(0.1\)"):
        inventory(small().train())
