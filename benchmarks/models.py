"""The same random weights as an mlx model and as a torch model, and the prompts that they are run on.

    shape = GPT2_SMALL
    weights = draw(shape)                       # {name in transformers: float32 array}
    net, twin = mlx_model(shape, weights), torch_model(shape, weights)

Weights are drawn wider than at initialisation, so that one token is likely and a probability says something.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np


@dataclass(frozen=True)
class Shape:
    """The sizes of a model. family: gpt2 or llama."""

    name: str
    family: str
    layers: int
    width: int
    hidden: int
    heads: int
    kv_heads: int
    vocab: int
    context: int = 1024

    @property
    def kv_width(self) -> int:
        return self.width // self.heads * self.kv_heads


GPT2_SMALL = Shape("gpt2-small", "gpt2", 12, 768, 3072, 12, 12, 50257)
GPT2_LONG = replace(GPT2_SMALL, name="gpt2-small with 2,048 positions", context=2048)
GPT2_TOY = Shape("gpt2-toy", "gpt2", 3, 48, 192, 3, 3, 211)
DEMO = Shape("demo", "llama", 12, 128, 256, 8, 4, 3271, 256)
LLAMA_TOY = Shape("llama-toy", "llama", 3, 64, 96, 4, 2, 211)

TOP_LOGIT = 4.0  # standard deviation of the logits that the embedding table is drawn for


def draw(shape: Shape, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights under their names in transformers; matrices of linear layers are [out, in]."""
    random = np.random.RandomState(seed)
    table = TOP_LOGIT / shape.width**0.5

    def matrix(rows: int, columns: int, scale: float | None = None) -> np.ndarray:
        scale = 1.0 / columns**0.5 if scale is None else scale
        return (scale * random.randn(rows, columns)).astype(np.float32)

    if shape.family == "gpt2":
        return _draw_gpt2(shape, matrix, table)
    return _draw_llama(shape, matrix, table)


def _draw_gpt2(shape: Shape, matrix, table: float) -> dict[str, np.ndarray]:
    d, ones, zeros = shape.width, np.ones, np.zeros
    out = {"transformer.wte.weight": matrix(shape.vocab, d, table)}
    out["transformer.wpe.weight"] = matrix(shape.context, d, table)
    for i in range(shape.layers):
        at = f"transformer.h.{i}."
        sizes = {
            "attn.c_attn": (3 * d, d),
            "attn.c_proj": (d, d),
            "mlp.c_fc": (shape.hidden, d),
            "mlp.c_proj": (d, shape.hidden),
        }
        for name, (rows, columns) in sizes.items():
            out[f"{at}{name}.weight"] = matrix(rows, columns)
            out[f"{at}{name}.bias"] = matrix(1, rows, 0.1)[0]
        for name in ("ln_1", "ln_2"):
            out[f"{at}{name}.weight"], out[f"{at}{name}.bias"] = ones(d, np.float32), zeros(d, np.float32)
    out["transformer.ln_f.weight"], out["transformer.ln_f.bias"] = ones(d, np.float32), zeros(d, np.float32)
    return out


def _draw_llama(shape: Shape, matrix, table: float) -> dict[str, np.ndarray]:
    d = shape.width
    out = {"model.embed_tokens.weight": matrix(shape.vocab, d, table)}
    for i in range(shape.layers):
        at = f"model.layers.{i}."
        sizes = {
            "self_attn.q_proj": (d, d),
            "self_attn.k_proj": (shape.kv_width, d),
            "self_attn.v_proj": (shape.kv_width, d),
            "self_attn.o_proj": (d, d),
            "mlp.gate_proj": (shape.hidden, d),
            "mlp.up_proj": (shape.hidden, d),
            "mlp.down_proj": (d, shape.hidden),
        }
        for name, (rows, columns) in sizes.items():
            out[f"{at}{name}.weight"] = matrix(rows, columns)
        for name in ("input_layernorm", "post_attention_layernorm"):
            out[f"{at}{name}.weight"] = np.ones(d, np.float32)
    out["model.norm.weight"] = np.ones(d, np.float32)
    return out


# ---- mlx


def mlx_model(shape: Shape, weights: dict[str, np.ndarray]) -> nn.Module:
    """The mlx-lm model that holds these weights, float32."""
    module = importlib.import_module(f"mlx_lm.models.{shape.family}")
    net = module.Model(module.ModelArgs.from_dict({"model_type": shape.family, **_mlx_config(shape)}))
    rename = (lambda k: k.replace("transformer.", "model.")) if shape.family == "gpt2" else (lambda k: k)
    net.load_weights([(rename(name), mx.array(x)) for name, x in weights.items()], strict=True)
    net.eval()
    mx.eval(net.parameters())
    return net


def _mlx_config(shape: Shape) -> dict[str, Any]:
    if shape.family == "gpt2":
        return {
            "n_ctx": shape.context,
            "n_positions": shape.context,
            "n_embd": shape.width,
            "n_head": shape.heads,
            "n_layer": shape.layers,
            "layer_norm_epsilon": 1e-5,
            "vocab_size": shape.vocab,
        }
    return {
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "intermediate_size": shape.hidden,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": 1e-5,
        "vocab_size": shape.vocab,
        "max_position_embeddings": shape.context,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
    }


def weights_of(net: nn.Module) -> dict[str, np.ndarray]:
    """The float32 weights of an mlx Llama under their names in transformers (they are the same)."""
    from mlx.utils import tree_flatten

    return {name: np.array(x.astype(mx.float32)) for name, x in tree_flatten(net.parameters())}


# ---- torch


def torch_model(shape: Shape, weights: dict[str, np.ndarray]) -> Any:
    """The transformers model that holds these weights, float32, in evaluation mode.

    Attention is "sdpa", transformers' own choice and the faster one; TransformerLens sets its own.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    common = {"vocab_size": shape.vocab, "bos_token_id": 0, "eos_token_id": 1}
    if shape.family == "gpt2":
        sizes = {"n_layer": shape.layers, "n_embd": shape.width, "n_head": shape.heads}
        twin = GPT2LMHeadModel(GPT2Config(**common, **sizes, n_positions=shape.context))
    else:
        twin = LlamaForCausalLM(LlamaConfig(**{**_mlx_config(shape), **common}))
    transposed = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # GPT-2's are Conv1D: [in, out]
    state = {
        k: torch.tensor(np.ascontiguousarray(x.T if k.endswith(transposed) else x))
        for k, x in weights.items()
    }
    missing, unexpected = twin.load_state_dict(state, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"the torch twin has other weights: missing {missing}, unexpected {unexpected}")
    twin.tie_weights()
    return twin.float().eval()


def tokenizer(shape: Shape) -> Any:
    """A tokenizer for peers that insist on one; prompts are token ids all the same."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({str(i): i for i in range(shape.vocab)}, unk_token="0"))
    special = {"pad_token": "0", "bos_token": "0", "eos_token": "1"}
    return PreTrainedTokenizerFast(tokenizer_object=words, **special, add_bos_token=True, name_or_path="")


def layers_of(twin: Any) -> Any:
    """The list of layers of a torch model, or of its nnsight wrapper."""
    return twin.transformer.h if hasattr(twin, "transformer") else twin.model.layers
