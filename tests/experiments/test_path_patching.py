"""Path patching as users ask for it, against module calls by hand."""

import itertools

import mlx.core as mx
import numpy as np
import pytest
from models import make

from mlxtrace import GaussianNoise, InterpretableModel
from mlxtrace.errors import InputError, PositionError, UnsupportedError
from mlxtrace.experiments.path_patching import NORMED, path_patching
from mlxtrace.results.path_set import PathSet

BASE, SOURCE = [3, 17, 90, 91, 52, 60], [3, 17, 40, 41, 52, 60]
HOW = {"metric": "logit", "target": 5, "foil": 9, "progress": False}


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(make("llama"))


def paths(model, senders=None, receivers=None, clean=SOURCE, corrupted=BASE, **options):
    return path_patching(model, clean, corrupted, senders, receivers, **{**HOW, **options})


class ByHand:
    """The tiny Llama, layer by layer: its own norms and projections, nothing of the package."""

    def __init__(self, net):
        self.net, self.layers = net.model, net.model.layers

    def keys(self, layer, x):
        attention = self.layers[layer].self_attn
        x = self.layers[layer].input_layernorm(x)
        q, k, v = (
            part(x).reshape(*x.shape[:2], -1, 16).swapaxes(1, 2)
            for part in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        return {"q": attention.rope(q), "k": attention.rope(k), "v": v}

    def run(self, ids, x=None, replaced=None):
        """Logits, and what each part gave; `replaced[name]` changes an array: "1.k" `[B, heads, T, w]`, "1.mlp"."""
        kept, replaced = {}, replaced or {}
        x = self.net.embed_tokens(mx.array([ids])) if x is None else x

        def through(name, value):
            kept[name] = replaced[name](value) if name in replaced else value
            return kept[name]

        for i, layer in enumerate(self.layers):
            through(f"{i}.x", x)
            found = self.keys(i, x)
            q, k, v = (through(f"{i}.{name}", found[name]) for name in "qkv")
            z = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.25, mask="causal").swapaxes(1, 2)
            through(f"{i}.z", z)
            mid = through(f"{i}.mid", x + layer.self_attn.o_proj(z.reshape(*x.shape[:2], -1)))
            x = mid + through(f"{i}.mlp", layer.mlp(layer.post_attention_layernorm(mid)))
        kept["3.x"] = x
        return self.logits(x), kept

    def logits(self, x):
        return np.array(self.head(self.net.norm(x)))[0, -1]

    def head(self, x):
        return self.lm_head(x)

    def written(self, kept, sender):
        """What a sender writes."""
        if sender == "embed":
            return kept["0.x"]
        layer = int(sender[1])
        if sender[0] == "m":
            return kept[f"{layer}.mlp"]
        head = int(sender[-1])
        columns = self.layers[layer].self_attn.o_proj.weight[:, 16 * head : 16 * head + 16]
        return kept[f"{layer}.z"][:, :, head] @ columns.T


@pytest.fixture(scope="module")
def by_hand(model):
    hand = ByHand(model.net)
    hand.lm_head = model.net.lm_head
    return hand


def edge_by_hand(hand, sender, receiver):
    """One edge in two passes and a third that is patched."""
    _, base = hand.run(BASE)
    _, source = hand.run(SOURCE)
    change = hand.written(source, sender) - hand.written(base, sender)
    return patched_by_hand(hand, base, change, receiver)


def patched_by_hand(hand, base, change, receiver):
    if receiver == "logits":
        return hand.logits(base["3.x"] + change)
    layer = int(receiver[1])
    if receiver[0] == "m":
        block = hand.layers[layer]
        value = block.mlp(block.post_attention_layernorm(base[f"{layer}.mid"] + change))
        return hand.run(BASE, replaced={f"{layer}.mlp": lambda _: value})[0]
    kind, head = receiver[-1], int(receiver[4])
    value = hand.keys(layer, base[f"{layer}.x"] + change)[kind]
    chosen = (mx.arange(value.shape[1]) == head)[:, None, None]
    return hand.run(BASE, replaced={f"{layer}.{kind}": lambda x: mx.where(chosen, value, x)})[0]


SENDERS = ["embed", "a0.h1", "a1.h2", "m0", "m1"]
RECEIVERS = ["a1.h3.q", "a2.h1.q", "a2.h0.k", "a2.h1.v", "m1", "m2", "logits"]


def test_every_edge_is_that_of_a_loop_by_hand(model, by_hand):
    found = paths(model, SENDERS, RECEIVERS)
    base = by_hand.run(BASE)[0]
    for i, j in itertools.product(range(5), range(7)):
        right = edge_by_hand(by_hand, SENDERS[i], RECEIVERS[j])[5] if found.edge[i, j] else base[5]
        assert found.raw[i, j] == pytest.approx(right, abs=2e-5), (SENDERS[i], RECEIVERS[j])
    assert found.edge.sum() == 32 and found.clean == pytest.approx(by_hand.run(SOURCE)[0][5], abs=1e-5)


def test_it_is_not_the_formula_that_leaves_the_norm_where_it_was(model, by_hand):
    """The linearised one holds the norm's scale at the base run's; ours lets the norm see the edited stream."""
    _, base = by_hand.run(BASE)
    _, source = by_hand.run(SOURCE)
    layer, norm = by_hand.layers[1], by_hand.layers[1].post_attention_layernorm
    change, mid = source["0.mlp"] - base["0.mlp"], base["1.mid"]
    scale = mx.rsqrt((mid**2).mean(-1, keepdims=True) + 1e-5)
    linear = layer.mlp(norm(mid) + change * scale * norm.weight)
    value = by_hand.run(BASE, replaced={"1.mlp": lambda _: linear})[0][5]
    found, start = paths(model, "m0", "m1").raw[0, 0], by_hand.run(BASE)[0][5]
    assert abs((value - start) / (found - start) - 1) > 0.05
    assert found == pytest.approx(edge_by_hand(by_hand, "m0", "m1")[5], abs=2e-5)


def test_a_chain_is_that_of_a_loop_by_hand(model, by_hand):
    """m0 -> keys of a1.h1 -> its two heads' output -> m2 and the queries of a2.h3, all else frozen."""
    _, base = by_hand.run(BASE)
    _, source = by_hand.run(SOURCE)
    value = by_hand.keys(1, base["1.x"] + source["0.mlp"] - base["0.mlp"])["k"]
    chosen = (mx.arange(2) == 1)[:, None, None]
    _, edited = by_hand.run(BASE, replaced={"1.k": lambda x: mx.where(chosen, value, x)})
    parts = [by_hand.written(edited, head) - by_hand.written(base, head) for head in ("a1.h2", "a1.h3")]
    found = paths(model, [["m0", "a1.h1.k"]], ["m2", "a2.h3.q", "logits"])
    for j, receiver in enumerate(found.receivers):
        right = patched_by_hand(by_hand, base, sum(parts), receiver)[5]
        assert found.raw[0, j] == pytest.approx(right, abs=2e-5)
    assert found.senders == ["m0 > a1.h1.k"] and abs(found.effect).max() > 1e-3


def test_receivers_together_are_each_given_the_direct_path(model, by_hand):
    _, base = by_hand.run(BASE)
    _, source = by_hand.run(SOURCE)
    change = source["0.mlp"] - base["0.mlp"]
    value = by_hand.keys(1, base["1.x"] + change)["v"]
    mlp = by_hand.layers[2].mlp(by_hand.layers[2].post_attention_layernorm(base["2.mid"] + change))
    chosen = (mx.arange(2) == 0)[:, None, None]
    both = {"1.v": lambda x: mx.where(chosen, value, x), "2.mlp": lambda _: mlp}
    found = paths(model, "m0", [["a1.h0.v", "m2"]])
    assert found.receivers == ["a1.h0.v + m2"]
    assert found.raw[0, 0] == pytest.approx(by_hand.run(BASE, replaced=both)[0][5], abs=2e-5)


def test_positions_are_those_of_the_receiver_and_its_sender(model, by_hand):
    each = paths(model, ["m0", "embed"], ["a1.h0.k", "m1"], positions="each")
    assert each.dims == ("sender", "receiver", "position") and each.raw.shape == (2, 2, 6)
    assert (each.effect[:, :, :2] == 0).all()  # where the prompts are alike
    for p in (2, 3):
        alone = paths(model, ["m0", "embed"], ["a1.h0.k", "m1"], positions=p)
        np.testing.assert_allclose(alone.raw, each.raw[..., p], atol=1e-5)
    _, base = by_hand.run(BASE)
    _, source = by_hand.run(SOURCE)
    there = (mx.arange(6) == 3)[:, None]
    change = mx.where(there, source["0.mlp"] - base["0.mlp"], 0)
    assert each.raw[0, 1, 3] == pytest.approx(patched_by_hand(by_hand, base, change, "m1")[5], abs=2e-5)


def test_noise_in_the_clean_run_is_the_same_with_the_prompts_exchanged(model):
    noised = paths(model, SENDERS, RECEIVERS, BASE, SOURCE, direction="noise")
    denoised = paths(model, SENDERS, RECEIVERS)
    np.testing.assert_allclose(noised.raw, denoised.raw, atol=1e-6)
    np.testing.assert_allclose(noised.effect, denoised.effect, atol=1e-6)
    np.testing.assert_allclose(noised.recovery, 100 - denoised.recovery, atol=1e-3)


def test_noise_on_embeddings_is_averaged_over_its_samples(model):
    noise = GaussianNoise([1, 2], level=0.7, samples=3)
    found = paths(model, ["embed", "a0.h1"], ["a1.k", "logits"], SOURCE, noise)
    whole = paths(model, ["r3"], ["logits"], SOURCE, noise)
    assert found.settings["corruption"].endswith("3 samples")
    reached = np.array([[True, True, False], [True, True, True]])  # the last token's embedding has no noise
    assert found.dims == ("sender", "receiver") and ((np.abs(found.effect) > 1e-4) == reached).all()
    assert whole.recovery[0, 0] == pytest.approx(100, abs=1e-3)


def test_prompts_of_several_lengths_are_paired_at_their_ends(model):
    longer = [9, *SOURCE[:3], 7, *SOURCE[3:]]
    found = paths(model, ["embed", "m0", "r3"], ["a1.v", "logits"], longer, BASE, align="ends")
    assert found.recovery[2, -1] == pytest.approx(100, abs=1e-3)


def test_a_set_has_means_and_intervals(model):
    clean = [SOURCE, [3, 17, 77, 41, 52, 60], [3, 11, 40, 41, 52, 60]]
    corrupted = [BASE, [3, 17, 90, 8, 52, 60], BASE]
    found = paths(model, ["m0", "embed"], ["m1", "logits"], clean, corrupted)
    assert isinstance(found, PathSet) and found.interval.shape == (2, 2)
    singles = [
        paths(model, ["m0", "embed"], ["m1", "logits"], *pair) for pair in zip(clean, corrupted, strict=True)
    ]
    np.testing.assert_allclose(found.per_pair["raw"], [one.raw for one in singles], atol=1e-6)
    np.testing.assert_allclose(found.effect, np.mean([one.effect for one in singles], axis=0), atol=1e-6)


def test_several_metrics_come_first(model):
    found = paths(model, ["m0"], ["m1", "logits"], metric=["logit", "kl"])
    assert found.dims == ("metric", "sender", "receiver") and set(found.clean) == {"logit", "kl"}
    np.testing.assert_allclose(found.raw[0], paths(model, ["m0"], ["m1", "logits"]).raw, atol=1e-6)


def test_a_norm_behind_the_heads_is_noted():
    found = paths(InterpretableModel(make("olmo2")), ["a0.h1"], ["logits"])
    assert found.notes == [NORMED] and not paths(InterpretableModel(make("llama")), "m0", "m1").notes


@pytest.mark.parametrize(
    ("ends", "options", "error", "said"),
    [
        (("m1", "m1"), {}, InputError, "m1 does not read what m1 writes"),
        (("m2", ["m1", "a2"]), {}, InputError, "none of the receivers reads what a sender writes"),
        (("m0", "nothing"), {}, InputError, "receiver 'nothing' is unknown"),
        (("m9", "logits"), {}, PositionError, "layer 9 does not exist"),
        (("m0", [["m1", "logits"]]), {}, InputError, 'use together="live"'),
        (("m0", "m1"), {"together": "alive"}, InputError, "together='alive' is unknown"),
        (("m0", "m1"), {"direction": "both"}, InputError, "direction='both' is unknown"),
        (("m0", "m1"), {"positions": 17}, PositionError, "17"),
        (("m0", "m1"), {"plot": "x.png"}, InputError, "plot"),
        (("m0", "m1"), {"max_memory": 10}, InputError, "max_memory is 10 bytes"),
    ],
)
def test_what_cannot_be_meant(model, ends, options, error, said):
    with pytest.raises(error, match=said):
        paths(model, *ends, **options)


def test_metrics_of_every_position_are_refused(model):
    def every(logits):
        return logits.mean((1, 2))

    every.every_position = True
    with pytest.raises(InputError, match="paths are measured at the last position"):
        paths(model, "m0", "m1", metric=every)


def test_a_model_whose_reads_cannot_be_split_is_refused():
    with pytest.raises(UnsupportedError, match="makes no call of mlx's attention"):
        paths(InterpretableModel(make("mamba")), "mlp", "logits")
