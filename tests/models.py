"""Tiny models of many mlx-lm architectures, with random weights, and folders that `mlx_lm.load` reads.

    net = make("llama")                      # float32, seed 0
    net = make("gpt2", seed=3, quantize=4)
    folder = save_folder(path, "llama")      # with a byte-level BPE tokenizer trained on a few sentences

The weights are drawn wider than mlx initialises them, so that attention is not uniform and edits matter.
"""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten, tree_unflatten

VOCAB = 160

_LLAMA = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": VOCAB,
    "max_position_embeddings": 256,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
_MOE = {"num_local_experts": 4, "num_experts_per_tok": 2}
_QWEN_MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True}
_DELTA = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 3,
    "full_attention_interval": 2,
    "shared_expert_intermediate_size": 32,
    "partial_rotary_factor": 0.5,
}

# name: what differs from the Llama-like base; a value of None removes a key, "base": False starts afresh
CONFIGS: dict[str, dict] = {
    "llama": {"tie_word_embeddings": False},
    "gpt2": {
        "base": False, "n_ctx": 128, "n_embd": 48, "n_head": 3, "n_layer": 3, "n_positions": 128,
        "layer_norm_epsilon": 1e-5, "vocab_size": VOCAB,
    },
    "gpt_neox": {
        "base": False, "max_position_embeddings": 128, "hidden_size": 48, "num_attention_heads": 3,
        "num_hidden_layers": 3, "layer_norm_eps": 1e-5, "vocab_size": VOCAB, "rotary_emb_base": 10000,
        "rotary_pct": 0.5,
    },
    "qwen2": {},
    "qwen3": {"head_dim": 24},
    "gemma2": {
        "head_dim": 16, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 16,
    },
    "gemma3_text": {
        "num_hidden_layers": 4, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 8,
        "sliding_window_pattern": 2,
    },
    "phi": {
        "base": False, "model_type": "phi", "max_position_embeddings": 128, "vocab_size": VOCAB, "hidden_size": 64,
        "num_attention_heads": 4, "num_hidden_layers": 3, "num_key_value_heads": 4, "intermediate_size": 96,
        "partial_rotary_factor": 0.5, "layer_norm_eps": 1e-5, "rope_theta": 10000.0,
    },
    "phi3": {"original_max_position_embeddings": 128, "tie_word_embeddings": False},
    "olmo2": {"head_dim": 16},
    "mixtral": {**_MOE, "tie_word_embeddings": False},
    "qwen3_moe": {**_QWEN_MOE, "head_dim": 16, "decoder_sparse_step": 2, "mlp_only_layers": [1]},
    "mamba": {
        "base": False, "vocab_size": VOCAB, "hidden_size": 48, "intermediate_size": 64, "state_size": 8,
        "num_hidden_layers": 3, "conv_kernel": 4, "use_bias": False, "use_conv_bias": True, "time_step_rank": 12,
    },
    "starcoder2": {"norm_epsilon": 1e-5},
    "stablelm": {
        "layer_norm_eps": 1e-5, "use_qkv_bias": True, "partial_rotary_factor": 0.5, "use_parallel_residual": False,
    },
    "cohere": {"layer_norm_eps": 1e-5, "logit_scale": 0.25, "use_qk_norm": False},
    "qwen3_next": {**_QWEN_MOE, **_DELTA, "head_dim": 16, "decoder_sparse_step": 2, "mlp_only_layers": [0]},
    "jamba": {
        "num_hidden_layers": 4, "attn_layer_offset": 1, "attn_layer_period": 2, "expert_layer_offset": 1,
        "expert_layer_period": 2, "mamba_d_conv": 3, "mamba_d_state": 8, "mamba_expand": 2, "num_experts": 2,
        "num_experts_per_tok": 1, "mamba_dt_rank": 6, "mamba_proj_bias": False, "mamba_conv_bias": True,
    },
    "nanbeige": {"num_hidden_layers": 2, "head_dim": 16, "num_loops": 2, "tie_word_embeddings": False},
    "granite": {
        "logits_scaling": 2.0, "attention_multiplier": 0.25, "embedding_multiplier": 3.0, "residual_multiplier": 0.4,
        "attention_bias": False, "mlp_bias": False,
    },
    "gemma4_text": {
        "num_hidden_layers": 4, "head_dim": 16, "global_head_dim": 32, "vocab_size_per_layer_input": VOCAB,
        "num_kv_shared_layers": 2, "hidden_size_per_layer_input": 16, "sliding_window": 8,
        "sliding_window_pattern": 2, "num_key_value_heads": 1,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
}  # fmt: skip
NAMES = list(CONFIGS)
# Wired as llama is, with other norms, biases, multipliers: heavy where all architectures are tried.
AS_LLAMA = {"qwen2", "granite", "starcoder2", "stablelm"}
SAMPLED = [pytest.param(name, marks=[pytest.mark.heavy] if name in AS_LLAMA else []) for name in NAMES]
# Models whose residual stream is the plain running sum of what mixers and MLPs contribute.
PLAIN = ["llama", "gpt2", "qwen2", "qwen3", "phi3", "mixtral", "qwen3_moe", "starcoder2", "stablelm", "jamba"]


def config(name: str, **changes) -> dict:
    """The configuration of a tiny model, as `config.json` holds it."""
    own = dict(CONFIGS[name])
    base = _LLAMA if own.pop("base", True) else {}
    return {"model_type": name, **base, **own, **changes}


def make(
    name: str, seed: int = 0, quantize: int | None = None, dtype: mx.Dtype | None = None, **changes
) -> nn.Module:
    """A tiny model with random weights, float32 unless `dtype`; `quantize`: 4 or 8 bits, groups of 32.

    An architecture that the installed mlx-lm does not have yet skips the test.
    """
    settings = config(name, **changes)
    module = pytest.importorskip(f"mlx_lm.models.{name}", reason=f"this mlx-lm has no {name}")
    mx.random.seed(seed)
    net = module.Model(module.ModelArgs.from_dict(settings))
    _widen(net, seed)
    net.eval()
    if dtype is not None:
        net.set_dtype(dtype)
    if quantize is not None:
        nn.quantize(net, group_size=32, bits=quantize, class_predicate=_divisible)
    mx.eval(net.parameters())
    return net


def _widen(net: nn.Module, seed: int) -> None:
    key = mx.random.key(seed)
    wider = []
    for i, (path, x) in enumerate(tree_flatten(net.parameters())):
        if x.ndim == 2 and "A_log" not in path:
            scale = 2.0 / max(x.shape[-1], 1) ** 0.5
            x = scale * mx.random.normal(x.shape, key=mx.random.split(key, i + 2)[i])
        wider.append((path, x))
    net.update(tree_unflatten(wider))


def _divisible(path: str, module: nn.Module) -> bool:
    return hasattr(module, "to_quantized") and module.weight.shape[-1] % 32 == 0


# ---- folders

TEXT = """The Eiffel Tower is located in the city of Paris. The Louvre Museum is located in the city of Paris.
The Colosseum is located in Rome. The capital of France is Paris. The capital of Germany is Berlin.
Paris is in the country of France. Rio is in the country of Brazil. Albert Einstein developed the theory of
relativity. Isaac Newton developed the theory of gravity. Water freezes at zero. Shakespeare wrote plays.
The CEO of Tesla is known. Hello world, the Statue of Liberty is in New York."""


def save_folder(path: str | Path, name: str, quantize: int | None = None, **changes) -> Path:
    """Write a tiny model and a byte-level BPE tokenizer as a folder that `mlx_lm.load` reads."""
    from mlx_lm.utils import save_config

    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    tokens = _tokenizer(path)
    if "vocab_size_per_layer_input" in CONFIGS[name]:  # MLX reads past the end of a table without a word
        changes = {"vocab_size_per_layer_input": tokens, **changes}
    settings = config(name, vocab_size=tokens, **changes)
    net = make(name, **{**changes, "vocab_size": tokens})
    if quantize:
        nn.quantize(net, group_size=32, bits=quantize, class_predicate=_divisible)
        settings["quantization"] = {"group_size": 32, "bits": quantize, "mode": "affine"}
    mx.save_safetensors(
        str(path / "model.safetensors"), dict(tree_flatten(net.parameters())), {"format": "mlx"}
    )
    save_config(settings, path / "config.json")
    return path


def _tokenizer(path: Path) -> int:
    """A tokenizer trained on TEXT; the size of its vocabulary, rounded up for quantization."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXT.split("\n"), trainer)
    made.save(str(path / "tokenizer.json"))
    facts = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "model_max_length": 256}
    (path / "tokenizer_config.json").write_text(json.dumps(facts))
    return -(-made.get_vocab_size() // 32) * 32
