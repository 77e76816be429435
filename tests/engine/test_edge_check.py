"""The identities that every pair is held against, and faults that they see."""

import mlx.core as mx
import numpy as np
import pytest
from models import make

from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.engine import choice
from mlxtrace.engine.edge_check import check
from mlxtrace.engine.edited_reads import EditedReads, SplitRun
from mlxtrace.engine.graph import Graph
from mlxtrace.engine.head_writer import HeadWriter
from mlxtrace.engine.layer_calls import LayerCall
from mlxtrace.engine.runs import Run
from mlxtrace.errors import UnsupportedError

BASE, SOURCE = (3, 17, 90, 91, 52, 60), (3, 17, 40, 41, 52, 60)


def checked(name, base=None, source=None, at=None, source_at=None, dtype=None, **options):
    net = make(name, **options)
    if dtype is not None:
        net.set_dtype(dtype)
    resolver = ModuleResolver(net)
    graph, base, source = Graph(resolver), base or Run(BASE), source or Run(SOURCE)
    runs = SplitRun(graph, base), SplitRun(graph, source)
    at = range(base.length) if at is None else at
    check(EditedReads(*runs, at, at if source_at is None else source_at), choice.choose(resolver))


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3_text", "granite", "cohere", "qwen3_moe"])
def test_it_holds(name):
    checked(name)


def test_it_holds_in_4_bits_and_in_half_precision():
    checked("llama", quantize=4)
    checked("llama", dtype=mx.bfloat16)
    checked("olmo2", dtype=mx.float16)


def test_it_holds_with_noise_and_between_lengths():
    noise = np.random.RandomState(0).randn(3, 2, 64) * 0.5
    checked("llama", base=Run(SOURCE, noise, (1, 2)), source=Run(SOURCE))
    checked("llama", base=Run(SOURCE), source=Run(SOURCE, noise, (1, 2)))
    checked("llama", source=Run((9, *SOURCE[1:3], 7, *SOURCE[3:])), at=(3, 4, 5), source_at=(4, 5, 6))


def test_a_stack_that_is_run_twice_is_refused_with_what_was_seen():
    with pytest.raises(
        UnsupportedError,
        match=r"the embedding's edges .* difference is \d\.\d+, where rounding explains 0\.000",
    ):
        checked("nanbeige")


def swapped(self, x):
    q, k, v = LAYER_CALL["attention_inputs"](self, x)
    return q, v, k


LAYER_CALL = {
    name: getattr(LayerCall, name) for name in ("attention_inputs", "mlp_output", "written", "projected")
}
OWN = {
    (SplitRun, "contribution"): SplitRun.contribution,
    (SplitRun, "stream_of"): SplitRun.stream_of,
    (HeadWriter, "_projected_apart"): HeadWriter._projected_apart,
    (HeadWriter, "_scale"): HeadWriter._scale,
    (EditedReads, "reads"): EditedReads.reads,
}


def no_embedding(self, node):
    found = OWN[SplitRun, "contribution"](self, node)
    return 0 * found if node.kind == "embed" else found


def another_head(self, projected, heads):
    return OWN[HeadWriter, "_projected_apart"](self, projected, [(h + 1) % self.heads for h in heads])


def another_scale(self, y, written):
    return 1.01 * OWN[HeadWriter, "_scale"](self, y, written)


def another_layer(self, kind, layer):
    return OWN[SplitRun, "stream_of"](self, kind, max(layer - 1, 0))


def no_edit(self, kind, layer, changes):
    return OWN[EditedReads, "reads"](self, kind, layer, [0 * x for x in changes] if kind == "k" else changes)


@pytest.mark.parametrize(
    ("kind", "name", "fault", "model"),
    [
        (LayerCall, "attention_inputs", swapped, "gpt2"),
        (SplitRun, "contribution", no_embedding, "llama"),
        (HeadWriter, "_projected_apart", another_head, "llama"),
        (HeadWriter, "_scale", another_scale, "olmo2"),
        (SplitRun, "stream_of", another_layer, "llama"),
        (EditedReads, "reads", no_edit, "llama"),
    ],
)
def test_a_fault_in_what_is_read_or_written_is_seen(monkeypatch, kind, name, fault, model):
    checked(model)
    monkeypatch.setattr(kind, name, fault)
    with pytest.raises(UnsupportedError, match="the largest difference is"):
        checked(model)
