"""The fingerprint of a model's weights, and versions."""

from __future__ import annotations

import mlx.core as mx
import models
import pytest

import mlxtrace
from mlxtrace.prompts.provenance import fingerprint


def nothing(net):
    pass


def last(net):
    w = net.model.layers[1].mlp.down_proj
    w.weight = mx.concatenate([w.weight[:-1], w.weight[-1:] + 1])


def rows(net):
    w = net.model.layers[1].mlp.down_proj
    w.weight = mx.concatenate([w.weight[1:2], w.weight[:1], w.weight[2:]])


def layers(net):
    net.model.layers[0].mlp, net.model.layers[1].mlp = net.model.layers[1].mlp, net.model.layers[0].mlp


def config(net):
    net.args.rope_theta = 1.0


@pytest.mark.parametrize("bits", [None, 4])
def test_the_fingerprint_sees_every_weight(bits):
    found = []
    for change in (nothing, last, rows, layers, config, nothing):
        net = models.make("llama", quantize=bits)
        change(net)
        found.append(fingerprint(mlxtrace.InterpretableModel(net).net))
    assert len(set(found)) == 5 and found[0] == found[-1]
