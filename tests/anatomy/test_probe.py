"""The probe: embedding, layers, parts and middle of many architectures, found by watching one pass."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import models
import pytest

from mlxtrace import InterpretableModel, errors
from mlxtrace.anatomy.probe import probe

# name: layers, embedding, norm, head, mixer and MLP of layer 0, whether it has a middle
EXPECTED = {
    "llama": (3, "model.embed_tokens", "model.norm", "lm_head", "self_attn", "mlp", True),
    "gpt2": (3, "model.wte", "model.ln_f", None, "attn", "mlp", True),
    "gpt_neox": (3, "model.embed_in", "model.final_layer_norm", "model.embed_out", "attention", "mlp", False),
    "gemma2": (3, "model.embed_tokens", "model.norm", None, "self_attn", "mlp", True),
    "phi": (3, "model.embed_tokens", "model.final_layernorm", "lm_head", "self_attn", "mlp", False),
    "mixtral": (3, "model.embed_tokens", "model.norm", "lm_head", "self_attn", "block_sparse_moe", True),
    "mamba": (3, "backbone.embeddings", "backbone.norm_f", None, "mixer", None, False),
    "jamba": (4, "model.embed_tokens", "model.final_layernorm", None, "mamba", "feed_forward", True),
    "qwen3_next": (3, "model.embed_tokens", "model.norm", None, "linear_attn", "mlp", True),
    "nanbeige": (4, "model.embed_tokens", "model.norm", "lm_head", "self_attn", "mlp", True),
    "granite": (3, "model.embed_tokens", "model.norm", None, "self_attn", "mlp", False),
    "cohere": (3, "model.embed_tokens", "model.norm", None, "self_attn", "mlp", False),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_what_the_probe_finds(name):
    count, embed, norm, head, mixer, mlp, middle = EXPECTED[name]
    found = probe(models.make(name))
    first = found.layers[0]
    tail = lambda paths: [p.removeprefix(first.path + ".") for p in paths]  # noqa: E731
    assert (len(found.layers), found.embed, found.norm, found.head) == (count, embed, norm, head)
    assert tail(first.mixers) == ([mixer] if mixer else [])
    assert tail(first.mlps) == ([mlp] if mlp else [])
    assert (first.added is not None) == middle
    assert middle or first.no_mid
    assert found.vocab_size == models.VOCAB


# MLX multiplies experts on a CPU in float32 only.
EXPERTS = (
    {"mixtral", "qwen3_moe", "qwen3_next", "jamba"} if mx.default_device() == mx.Device(mx.cpu) else set()
)


@pytest.mark.skipif(not EXPERTS, reason="for CPUs")
def test_experts_in_half_precision_name_the_cure():
    with pytest.raises(errors.LoadError, match='dtype="float32"'):
        probe(models.make("mixtral", dtype=mx.bfloat16))


def test_a_stack_that_runs_twice_has_layers_for_both_visits():
    found = probe(models.make("nanbeige"))
    assert [(layer.path[-1], layer.visit) for layer in found.layers] == [
        ("0", 0),
        ("1", 0),
        ("0", 1),
        ("1", 1),
    ]
    assert found.norm_visit == found.visits["model.norm"] - 1


@pytest.mark.parametrize("name", models.NAMES)
def test_quantized_and_half_precision_models_have_the_same_structure(name):
    plain = probe(models.make(name))
    halves = [probe(models.make(name, dtype=mx.bfloat16))] if name not in EXPERTS else []
    for other in (probe(models.make(name, quantize=4)), *halves):
        assert other.layers == plain.layers or [x.path for x in other.layers] == [
            x.path for x in plain.layers
        ]
        assert (other.embed, other.norm, other.head) == (plain.embed, plain.norm, plain.head)
        assert [x.mixers for x in other.layers] == [x.mixers for x in plain.layers]
        assert [x.added for x in other.layers] == [x.added for x in plain.layers]


class Custom(nn.Module):
    """A model that is in no library: other names, layers in a plain list, keyword argument, tuple output."""

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.talk, self.think = (
                nn.MultiHeadAttention(width, 2),
                nn.Sequential(nn.Linear(width, width), nn.ReLU()),
            )

        def __call__(self, mask, stream=None):
            stream = stream + self.talk(stream, stream, stream, mask)
            return stream + self.think(stream), None

    def __init__(self, width=16, vocab=50):
        super().__init__()
        self.words = nn.Embedding(vocab, width)
        self.stack = [self.Block(width) for _ in range(3)]
        self.last = nn.RMSNorm(width)

    def __call__(self, tokens, cache=None):
        x = self.words(tokens)
        mask = nn.MultiHeadAttention.create_additive_causal_mask(x.shape[1])
        for block in self.stack:
            x, _ = block(mask, stream=x)
        return self.words.as_linear(self.last(x))


def test_a_model_that_no_library_has():
    mx.random.seed(1)
    model = InterpretableModel(Custom())
    layer = model.resolver.structure.layers[1]
    assert (layer.path, layer.slot, layer.mixers, layer.mlps) == (
        "stack.1", "stream", ("stack.1.talk",), ("stack.1.think",),
    )  # fmt: skip
    with model.trace([1, 2, 3]) as trace:
        model.layers[1].resid_mid.output[:, 1] = 0.0
        model.layers[2].input[:, 0] = 1.0
    assert trace.output.shape == (1, 3, 50)
    assert mx.abs(trace.activations["layers.1.resid_mid"][:, 1]).max() == 0


class NoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)

    def __call__(self, x):
        return self.embed.as_linear(self.embed(x))


class Fails(Custom):
    def __call__(self, tokens, cache=None):
        raise ValueError("wants pictures")


class NoLogits(Custom):
    def __call__(self, tokens, cache=None):
        super().__call__(tokens)


@pytest.mark.parametrize(
    ("net", "text"),
    [(nn.Linear(3, 3), "no list of layers"), (NoLayers(), "no list of layers"), (Fails(), "wants pictures"),
     (NoLogits(), "not logits")],
)  # fmt: skip
def test_what_is_no_language_model_is_refused(net, text):
    with pytest.raises(errors.LoadError, match=text):
        InterpretableModel(net)
