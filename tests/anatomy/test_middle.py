"""The middle of a layer: what is added between input and MLP, and why there may be none."""

from __future__ import annotations

import models
import pytest

from mlxtrace import InterpretableModel
from mlxtrace.anatomy.probe import probe


def test_post_norm_models_add_the_normed_output():
    assert probe(models.make("gemma2")).layers[0].added == "model.layers.0.post_attention_layernorm"
    assert probe(models.make("olmo2")).layers[0].added == "model.layers.0.post_attention_layernorm"
    assert probe(models.make("llama")).layers[0].added == "model.layers.0.self_attn"


@pytest.mark.parametrize("name", ["llama", "gemma2", "mixtral"])
def test_the_middle_is_the_input_and_what_is_added(name):
    model = InterpretableModel(models.make(name))
    added = model.resolver.layer(1).added
    _, kept = model.run_with_cache([3, 17, 5, 90, 41])
    before, middle = kept["layers.1.resid_pre"], kept["layers.1.resid_mid"]
    assert abs(middle - before - kept[added]).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("cohere", "in parallel"),
        ("phi", "in parallel"),
        ("granite", "plain sum"),
        ("mamba", "1 mixers and 0 MLPs"),
    ],
)
def test_why_there_is_none(name, why):
    layers = probe(models.make(name)).layers
    assert all(layer.added is None and why in layer.no_mid for layer in layers)
