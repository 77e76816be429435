"""What senders change, and what reads it become, against module calls by hand."""

import mlx.core as mx
import numpy as np
import pytest
from models import make

from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.engine.edited_reads import EditedReads, SplitRun
from mlxtrace.engine.graph import Graph
from mlxtrace.engine.graph_names import senders
from mlxtrace.engine.runs import Run

BASE, SOURCE = (3, 17, 90, 91, 52, 60), (3, 17, 40, 41, 52, 60)


@pytest.fixture(scope="module")
def edited():
    graph = Graph(ModuleResolver(make("llama")))
    every = range(6)
    return EditedReads(SplitRun(graph, Run(BASE)), SplitRun(graph, Run(SOURCE)), every, every)


def change(edited, name):
    return edited.change(senders(edited.graph, [name])[0])


def close(found, right):
    right = np.array(right)
    np.testing.assert_allclose(np.array(found), right, atol=1e-5 * max(1, np.abs(right).max()))


def test_changes_are_differences_of_what_is_written(edited):
    streams = [run.streams for run in (edited.base, edited.source)]
    close(change(edited, "embed"), streams[1][0] - streams[0][0])
    close(change(edited, "r2"), streams[1][2] - streams[0][2])
    names = ["embed", *(f"a{i}.h{h}" for i in range(3) for h in range(4)), "m0", "m1", "m2"]
    close(change(edited, " + ".join(names)), change(edited, "r3"))
    assert not np.array(change(edited, "m1"))[:, :2].any()  # where the prompts are alike


def test_reads_of_an_edited_stream_go_through_the_models_own_norm_and_projection(edited):
    layer, delta = edited.graph.resolver.paths["model.layers.1"], change(edited, "m0")
    x = layer.input_layernorm(edited.base.streams[1] + delta)
    attention = layer.self_attn
    for kind, projection in (("q", attention.q_proj), ("k", attention.k_proj), ("v", attention.v_proj)):
        right = projection(x).reshape(1, 6, -1, 16)
        if kind != "v":
            right = attention.rope(right.swapaxes(1, 2)).swapaxes(1, 2)
        close(edited.reads(kind, 1, [delta]), right)
    middle = edited.base.streams[1] + edited.base.mixed[1] + delta
    right = layer.mlp(layer.post_attention_layernorm(middle))
    close(edited.reads("mlp", 1, [0 * delta, delta])[1:], right)


def test_a_chain_passes_a_change_through_one_read_alone(edited):
    layer, delta = edited.graph.resolver.paths["model.layers.1"], change(edited, "m0")
    keys = edited.base.reads(1, edited.base.streams[1], "qkv")
    other = edited.reads("k", 1, [delta])
    mixed = mx.concatenate([keys["k"][:, :, :1], other[:, :, 1:]], axis=2)
    q, k, v = (x.swapaxes(1, 2) for x in (keys["q"], mixed, keys["v"]))
    out = mx.fast.scaled_dot_product_attention(q, k, v, scale=layer.self_attn.scale, mask="causal")
    more = (out.swapaxes(1, 2) - edited.base.projected[1])[:, :, 2:].reshape(1, 6, -1)
    right = more @ layer.self_attn.o_proj.weight[:, 32:].T
    close(change(edited, ["m0", "a1.h1.k"]), right)
    through_both = edited.reads("mlp", 2, [right]) - edited.base.mlps[2]
    close(change(edited, ["m0", "a1.h1.k", "m2"]), through_both)
    assert np.abs(np.array(right)).max() > 0.01


def test_a_chain_through_several_reads_of_one_head(edited):
    layer, delta = edited.graph.resolver.paths["model.layers.1"], change(edited, "m0")
    found = edited.base.reads(1, edited.base.streams[1] + delta, "qkv")  # all of them see the change
    given = edited.base.attended(1, found["q"], found["k"], found["v"]) - edited.base.projected[1]
    close(change(edited, ["m0", "a1.h3"]), given[:, :, 3] @ layer.self_attn.o_proj.weight[:, 48:].T)
    whole = change(edited, ["m0", [f"a1.h{h}" for h in range(4)]])
    close(whole, given.reshape(1, 6, -1) @ layer.self_attn.o_proj.weight.T)


def test_only_positions_with_a_counterpart_change(edited):
    ends = EditedReads(edited.base, edited.source, (1, 3), (2, 4))
    found = np.array(change(ends, "m1"))
    right = np.array(edited.source.mlps[1])[:, [2, 4]] - np.array(edited.base.mlps[1])[:, [1, 3]]
    np.testing.assert_allclose(found[:, [1, 3]], right, atol=1e-6)
    assert not found[:, [0, 2, 4, 5]].any()


def test_what_is_kept_is_bounded(edited):
    small = EditedReads(edited.base, edited.source, range(6), range(6), most_bytes=1)
    for name in ("m0", "a1.h0", ["m0", "m1"], "m0"):
        close(change(small, name), change(edited, name))
    assert len(small._changes) <= 5 and len(small._chains) == 1
