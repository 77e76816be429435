"""A sharded model on ranks that are threads: what is found to be a part, and wholes at the taps."""

from __future__ import annotations

import importlib

import mlx.core as mx
import numpy as np
import pytest
from fake_ranks import on_ranks
from sharded_models import CLEAN, make

from mlxtrace import InterpretableModel
from mlxtrace.anatomy.shards import Part, share_of
from mlxtrace.errors import LoadError, OrderError, UnsupportedError

SITES = ["layers.1.q", "layers.1.k", "layers.1.v", "layers.1.pattern", "layers.1.head", "layers.1.mlp"]


def asked(model: InterpretableModel) -> dict[str, np.ndarray]:
    """Sites, modules by path, and edits."""
    with model.trace(CLEAN) as trace:
        head = model.layers[0].head.output
        head[:, :, 3] = 2 * head[:, :, 1]
        if "layers.1.pattern" in model.resolver.table:
            pattern = model.layers[1].pattern.output
            pattern[:, 2] = pattern[:, 1]
        values = model.layers[2].v.output
        values[:, 3, 0] = 0.5
    names = [name for name in [*SITES, "layers.1.neuron"] if name in model.resolver.table]
    names += [path for path in trace.activations if path.endswith(("q_proj", "q_b_proj", "gate_proj"))]
    with model.trace(CLEAN[:1]) as one:  # latent attention runs one token in another way
        keys = model.layers[1].k.output
        keys[:, :, 0] = 0.5
        values = model.layers[1].v.output
        values[:, :, -1] = 2 * values[:, :, 0]
    alone = {f"one {name}": np.array(one.activations[name]) for name in names}
    found = {name: np.array(trace.activations[name]) for name in names} | alone
    found["one"] = np.array(one.output)
    counts = np.array([model.n_heads, model.n_kv_heads])
    return {"logits": np.array(trace.output), **found, "counts": counts}


def sharded(name: str, size: int = 2) -> list[dict[str, np.ndarray]]:
    def ask(group):
        net = make(name)
        net.shard(group)
        return asked(InterpretableModel(net))

    return on_ranks(size, ask)


def differing(whole: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> list[str]:
    return [
        name
        for name, x in whole.items()
        if x.shape != found[name].shape or not np.abs(x - found[name]).max() <= 2e-5 * np.abs(x).max()
    ]


@pytest.mark.parametrize(
    ("name", "size"), [("llama", 2), ("llama", 4), ("gpt_oss", 2), ("deepseek_v3", 2), ("llama-4bit", 2)]
)
def test_every_rank_sees_the_whole(name, size):
    whole = asked(InterpretableModel(make(name)))
    for found in sharded(name, size):
        assert differing(whole, found) == []


def _other_order(self, x, among=None):
    return mx.roll(gather(self, x, among), x.shape[self.axis], axis=self.axis)


def _anothers_slice(self, x):
    return mx.split(x, self.group.size(), axis=self.axis)[1 - self.group.rank()]


gather = Part._gather


@pytest.mark.parametrize(
    ("name", "fault"), [("_gather", _other_order), ("_slice", _anothers_slice), ("_slice", lambda self, x: x)]
)
def test_planted_faults_are_seen(name, fault, monkeypatch):
    """Gathered in another order; another rank's slice put back; nothing sliced."""
    whole = asked(InterpretableModel(make("llama")))
    monkeypatch.setattr(Part, name, fault)
    try:
        found = sharded("llama")
    except Exception:
        return
    assert differing(whole, found[0])


def test_what_has_no_known_layout_is_refused_by_name():
    def ask(group):
        net = make("deepseek_v3")
        net.shard(group)
        model = InterpretableModel(net)
        name = "model.layers.1.self_attn.embed_q"
        with pytest.raises(UnsupportedError, match="another array on each of the 2 processes"):
            model.resolver.resolve(name)
        with model.trace(CLEAN) as trace:
            pass
        return name in trace.activations, share_of(net.model.layers[1].self_attn.o_proj).inputs.keys()

    assert on_ranks(2, ask) == [(False, {0}), (False, {0})]


def _other_prompts(model, rank):
    model.run_with_cache([3, 17, 45 + rank], sites=[])


def _reads_on_one_rank(model, rank):
    with model.trace(CLEAN):
        if rank == 0:
            model.norm.output.save()


def _random_edits(model, rank):
    key = mx.random.key(rank)  # as unseeded processes draw
    edits = {"layers.1.head": lambda x: x + 0.1 * mx.random.normal(x.shape, key=key)}
    with model.trace(CLEAN, interventions=edits):
        pass


def _edits_in_a_body(model, rank):
    with model.trace(CLEAN):
        model.layers[1].mlp.output = (1 + 0.1 * rank) * model.layers[1].mlp.output


def _generates_after_others(model, rank):
    model.generate(CLEAN[: 5 + rank], 2)


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        (_other_prompts, r"rank 0 is at a pass over 1 x 3 tokens \(3 17 45 .*rank 1 at .*\(3 17 46 "),
        (_reads_on_one_rank, "rank 0 is at model.norm.output in a trace, rank 1 at the end of a trace"),
        (_random_edits, "the edit at .* makes another array on rank 1 than on rank 0"),
        (_edits_in_a_body, "the edit at model.layers.1.mlp.output makes another array on rank 1"),
        (_generates_after_others, "rank 0 is at 2 tokens to generate after 5 .*, rank 1 at .* after 6 "),
    ],
)
def test_ranks_that_do_not_do_the_same_are_told(calls, words):
    """Their sums would belong to neither: nothing that is wrong may come back."""
    importlib.import_module("mlx_lm.generate")  # its stream is of the thread that imports it

    def ask(group):
        net = make("llama")
        net.shard(group)
        model = InterpretableModel(net)
        with pytest.raises(OrderError, match=words):
            calls(model, group.rank())
        return True

    assert on_ranks(2, ask) == [True, True]


def test_a_pipeline_is_refused():
    net = make("deepseek_v3")
    net.model.pipeline_size = 2
    with pytest.raises(LoadError, match='shard="pipeline"'):
        InterpretableModel(net)


def test_an_activation_that_models_have_in_common_is_marked_in_none_but_the_sharded_one():
    """SwitchGLU's is a default argument: one object for all models of a process."""
    before = make("qwen3_moe")
    on_ranks(2, lambda group: sharded_net("qwen3_moe", group))
    for net in (before, make("qwen3_moe")):
        assert not [module for module in net.modules() if share_of(module) is not None]


def sharded_net(name: str, group: object) -> None:
    net = make(name)
    net.shard(group)
    assert [module for module in InterpretableModel(net).net.modules() if share_of(module) is not None]
