"""Contributions add up to the stream, and a head's is what its own slice of the projection writes."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from models import make

from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.engine.graph import Graph, Node
from mlxtrace.engine.runs import Run
from mlxtrace.engine.split_reads import SplitRun, contributions

IDS = (3, 17, 90, 91, 52, 60)


def split(name, **options):
    return SplitRun(Graph(ModuleResolver(make(name, **options))), Run(IDS))


@pytest.mark.parametrize("name", ["llama", "gpt2", "granite", "olmo2", "gemma3_text", "phi", "mixtral"])
def test_contributions_add_up_to_the_stream(name):
    run = split(name)
    total = run.contribution(Node("embed"))
    for layer in range(run.graph.n_layers):
        total = total + sum(run.contributions(layer).values())
        after = np.array(run.streams[layer + 1])
        np.testing.assert_allclose(np.array(total), after, atol=2e-6 * np.abs(after).max())


def test_of_a_quantized_model_too():
    run = split("llama", quantize=4)
    found = contributions(run.graph, run.run)
    assert list(found) == [node.name for node in run.graph.senders]
    total, after = np.array(sum(found.values())), np.array(run.streams[-1])
    np.testing.assert_allclose(total, after, atol=5e-6 * np.abs(after).max())


def test_a_head_writes_what_its_columns_of_the_projection_give():
    run = split("gpt2")  # with biases, which the heads share
    projection, given = run.resolver.paths[run.resolver.layer(1).out_proj], np.array(run.projected[1])
    weight, bias = np.array(projection.weight), np.array(projection.bias)
    for head in range(3):
        columns = slice(16 * head, 16 * head + 16)
        by_hand = given[:, :, head] @ weight[:, columns].T + bias / 3
        found = np.array(run.contribution(Node("head", 1, head)))
        np.testing.assert_allclose(found, by_hand, atol=1e-5)


def test_through_a_norm_a_head_has_its_part_at_the_runs_own_scale():
    run = split("olmo2")
    layer = run.resolver.paths["model.layers.1"]
    weight = np.array(layer.self_attn.o_proj.weight)
    given, mixed = np.array(run.projected[1]), np.array(run.mixed[1])
    scale = 1 / np.sqrt((mixed**2).mean(-1, keepdims=True) + layer.post_attention_layernorm.eps)
    for head in range(4):
        part = given[:, :, head] @ weight[:, 16 * head : 16 * head + 16].T
        by_hand = part * scale * np.array(layer.post_attention_layernorm.weight)
        np.testing.assert_allclose(np.array(run.contribution(Node("head", 1, head))), by_hand, atol=1e-5)
    assert not run.heads_apart(1) and split("llama").heads_apart(1)


def test_the_factor_of_the_residual_is_in_what_is_written():
    run = split("granite")
    factor = run.resolver.paths["model.layers.1"].residual_multiplier
    assert factor != 1
    written = np.array(run.mlp_written(1, run.mlps[1]))
    np.testing.assert_allclose(written, factor * np.array(run.mlps[1]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "gemma3_text"])
def test_reads_of_the_runs_own_stream_are_its_own(name):
    run = split(name)
    for layer in range(run.graph.n_layers):
        attention = run.reads(layer, run.stream_of("q", layer), "qkv")
        given = run.attended(layer, *(attention[kind] for kind in "qkv"))
        np.testing.assert_allclose(np.array(given), np.array(run.projected[layer]), atol=1e-5)
        mlp = run.reads(layer, run.stream_of("mlp", layer), ("mlp",))["mlp"]
        np.testing.assert_allclose(np.array(mlp), np.array(run.mlps[layer]), atol=1e-4)
        whole = np.array(run.mixer_written(layer, run.projected[layer]))
        heads = run.heads_written(layer, run.projected[layer], range(run.graph.heads[layer])).sum(0)
        np.testing.assert_allclose(whole, np.array(heads), atol=1e-5)


def test_projections_of_other_kinds_are_called_as_they_are():
    net = make("llama")
    before = np.array(SplitRun(Graph(ModuleResolver(net)), Run(IDS)).contribution(Node("head", 1, 2)))

    class Other(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.weight = inner.weight

        def __call__(self, x):
            return x @ self.weight.T

    for layer in net.model.layers:
        layer.self_attn.o_proj = Other(layer.self_attn.o_proj)
    after = np.array(SplitRun(Graph(ModuleResolver(net)), Run(IDS)).contribution(Node("head", 1, 2)))
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert mx.array(after).dtype == mx.float32
