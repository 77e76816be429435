"""What is said of a model: the table of its layers, and what its components are not."""

from __future__ import annotations

import dataclasses

import models
import pytest

from mlxtrace.anatomy.probe import probe
from mlxtrace.anatomy.remarks import layer_table, remarks


@pytest.fixture(scope="module")
def found():
    return probe(models.make("llama"))


def changed(found, **changes):
    layers = tuple(dataclasses.replace(layer, **changes) for layer in found.layers)
    return dataclasses.replace(found, layers=layers)


def test_the_table_has_a_line_for_each_layer(found):
    lines = layer_table(found).splitlines()
    assert lines[0].split() == ["layer", "module", "attn", "mlp", "resid_mid"]
    assert [line.split()[1] for line in lines[1:4]] == [f"model.layers.{i}" for i in range(3)]
    assert lines[4] == "embed: model.embed_tokens   norm: model.norm   head: lm_head" and len(lines) == 5
    assert "tied to the embedding" in layer_table(dataclasses.replace(found, head=None))
    twice = layer_table(changed(found, visit=1, added=None, no_mid="a reason", mlps=()))
    assert "model.layers.2@1" in twice and "no: a reason" in twice


def test_plain_models_have_nothing_said_of_them(found):
    assert not any(
        remarks(found, c, range(3)) for c in ("attn", "mlp", "head", "neuron", "resid_pre", "router")
    )


@pytest.mark.parametrize(
    ("changes", "component", "text"),
    [
        ({"rest": ("gain",)}, "attn", "also gains"),
        ({"plain": None}, "mlp", "could not be measured"),
        ({"plain": False}, "head", "no sum of its input, attn and mlp"),
        ({"mlps": ("a", "b"), "summed": ("a", "b")}, "mlp", "mlp is a + b together"),
        ({"mlps": ("a", "b"), "summed": ("c",)}, "mlp", "as c adds it to the stream"),
    ],
)
def test_one_sentence_names_all_layers_of_a_kind(found, changes, component, text):
    (said,) = remarks(changed(found, **changes), component, [0, 2])
    assert text in said and said.endswith(": layers 0, 2")
    assert not remarks(changed(found, **changes), "resid_post", [0, 2])
