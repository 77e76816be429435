"""The fingerprint of a model's weights, and versions."""

from __future__ import annotations

import functools

import mlx.core as mx
import models
import pytest

import mlxtrace
from mlxtrace.prompts.provenance import fingerprint, told


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


def test_values_are_told_the_same_in_every_process():
    def scaled(by, offset=0):
        def metric(logits):
            return [by * row for row in logits if row > offset]

        return metric

    assert told((1, [range(3)], {"a": None})) == [1, [[0, 3, 1]], {"a": None}]
    assert told(scaled(2)) == told(scaled(2)) != told(scaled(3))
    assert "scaled.<locals>.metric " in told(scaled(2)) and " at 0x" not in told(scaled(scaled(2)))
    assert told(functools.partial(scaled(2), 1)) != told(functools.partial(scaled(2), 2))
    assert told(lambda x: x[0]) != told(lambda x: x[1])

    class Metric:
        def __init__(self, by):
            self.by = by

        def __call__(self, logits):
            return self.by * logits[:, 0]

    assert told(Metric(2)) == told(Metric(2)) != told(Metric(3))
    assert told(lambda x: [y + 1 for y in x]) != told(lambda x: [y + 2 for y in x])
    assert told(lambda x, y=1: x) != told(lambda x, y=2: x)
    assert told(print).startswith("print ")


def test_adapters_count_with_their_scale():
    from mlx_lm.tuner.utils import linear_to_lora_layers

    net = models.make("llama")
    bare = fingerprint(net)
    linear_to_lora_layers(net, 1, {"rank": 2, "scale": 8.0, "dropout": 0.0})
    one = fingerprint(net)
    for module in net.modules():
        if "lora_a" in module:
            module.scale = 4.0
    assert len({bare, one, fingerprint(net)}) == 3


def test_a_model_is_told_by_its_weights():
    one, same, other = (mlxtrace.InterpretableModel(models.make("llama", seed=seed)) for seed in (0, 0, 1))
    assert told(one) == told(same) != told(other)
    assert told(one)[0] == "llama"
