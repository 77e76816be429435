"""What the probe's classes promise: where a part is missing, the reason is there."""

from __future__ import annotations

import dataclasses

import models
import pytest

from mlxtrace.anatomy.probe import probe

WHY = {"added": "no_mid", "attention": "no_attention", "router": "no_router"}


@pytest.mark.parametrize("name", models.NAMES)
def test_what_is_missing_has_a_reason(name):
    for layer in probe(models.make(name)).layers:
        for part, reason in WHY.items():
            assert getattr(layer, part) is not None or getattr(layer, reason), part
        assert layer.summed or layer.no_mlp or not layer.mlps
        assert (layer.attention_heads == (0, 0)) == (layer.attention is None)


def test_what_was_found_cannot_be_changed():
    found = probe(models.make("llama"))
    for fixed in (found, found.layers[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            fixed.path = "another"
