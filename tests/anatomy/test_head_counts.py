"""Head counts: the mixer's word before its attention call, and that before the model's arguments."""

from __future__ import annotations

from types import SimpleNamespace

import models
import pytest

from mlxtrace import InterpretableModel
from mlxtrace.anatomy.head_counts import said_heads


@pytest.mark.parametrize(
    ("name", "heads", "kv"),
    [
        ("llama", 4, 2),
        ("gpt2", 3, 3),
        ("qwen3_next", 4, 2),
        ("jamba", 4, 2),
        ("mamba", None, None),
        ("phi", 4, 4),
    ],
)
def test_head_counts(name, heads, kv):
    model = InterpretableModel(models.make(name))
    assert (model.n_heads, model.n_kv_heads) == (heads, kv)


def test_what_a_mixer_says():
    assert said_heads(SimpleNamespace(n_heads=4, n_kv_heads=2), kv=True) == 2
    assert said_heads(SimpleNamespace(n_heads=4, n_kv_heads=2), kv=False) == 4
    assert said_heads(SimpleNamespace(n_heads=4), kv=True) == 4, "no grouping"
    assert said_heads(SimpleNamespace(n_heads=0, num_heads="4"), kv=False) is None


def test_layers_without_attention_do_not_take_the_arguments_word():
    """jamba's arguments mean its attention layers alone; its state-space mixers have no heads."""
    model = InterpretableModel(models.make("jamba"))
    kinds = [layer.attention is not None for layer in model.resolver.structure.layers]
    assert [bool(model.resolver.n_heads(i)) for i in range(model.n_layers)] == kinds
    assert [model.resolver.n_heads(-1, kv=True), model.resolver.n_heads(model.n_layers - 1, kv=True)] == [
        2,
        2,
    ]
