"""Tiny configurations of the mlx-lm architectures that `models.CONFIGS` leaves out.

    net = make("deepseek_v32")          # float32, seed 0, weights as in `models.make`

Same form as there: what differs from the Llama-like base; "base": False starts afresh. Families that wrap a text
model keep it under "text_config", written as the name of the wrapped architecture and what differs.
"""

from __future__ import annotations

import importlib
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import models
from mlx.utils import tree_flatten, tree_unflatten
from models import VOCAB

_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True}
_LATENT = {  # multi-head latent attention
    "kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16,
}  # fmt: skip
_ROUTED = {
    "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "first_k_dense_replace": 1, "moe_layer_freq": 1,
}  # fmt: skip
_SHORT_CONV = {
    "norm_eps": 1e-5, "conv_bias": False, "conv_L_cache": 3, "layer_types": ["conv", "full_attention", "conv"],
}  # fmt: skip
_KDA = {
    "kda_layers": [1, 3],
    "num_heads": 4,
    "head_dim": 16,
    "short_conv_kernel_size": 3,
    "full_attn_layers": [2],
}
_SLIDING = ["sliding_attention", "full_attention", "sliding_attention"]

MORE: dict[str, dict[str, Any]] = {
    "afm7": {
        "base": False, "vocab_size": VOCAB, "hidden_dim": 64, "num_layers": 4, "num_kv_reuse_layers": 2,
        "num_heads": 4, "num_kv_heads": 2, "hidden_dim_scale_factor": 2.0, "rope_theta": 10000.0, "rms_norm_eps": 1e-5,
    },
    "afmoe": {
        **_EXPERTS, "layer_types": _SLIDING, "num_dense_layers": 1, "sliding_window": 6, "head_dim": 16,
    },
    "baichuan_m1": {"tie_word_embeddings": False, "sliding_window": 6, "sliding_window_layers": [1], "conv_window": 2},
    "bailing_moe_linear": {
        **_EXPERTS, "num_shared_experts": 1, "first_k_dense_replace": 1, "layer_group_size": 3, "group_norm_size": 4,
        "head_dim": 16, "num_hidden_layers": 4, "topk_group": 1,
    },
    "bitnet": {},
    "deepseek": {**_ROUTED},
    "deepseek_v2": {
        **_LATENT, **_ROUTED, "num_key_value_heads": 4, "topk_method": "greedy",
        "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 64, "mscale_all_dim": 0.7, "mscale": 0.7},
    },
    "deepseek_v3": {**_LATENT, **_ROUTED, "num_key_value_heads": 4},
    "deepseek_v32": {
        **_LATENT, **_ROUTED, "index_head_dim": 16, "index_n_heads": 2, "index_topk": 6, "num_key_value_heads": 4,
    },
    "deepseek_v41": {
        "head_dim": 64, "qk_rope_head_dim": 16, "q_lora_rank": 24, "o_groups": 2, "o_lora_rank": 16,
        "moe_intermediate_size": 32, "n_routed_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8,
        "compress_ratios": [0, 4, 4], "index_n_heads": 2, "index_head_dim": 64, "index_topk": 2, "hc_mult": 2,
        "kv_source_layer_ids": [1], "index_source_layer_ids": [1],
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    },
    "ernie4_5": {"use_bias": False, "head_dim": 16},
    "ernie4_5_moe": {
        "use_bias": False, "moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 32, "moe_layer_start_index": 1,
        "moe_layer_end_index": 2,
    },
    "glm": {"head_dim": 16, "attention_bias": True},
    "glm4": {"head_dim": 16, "attention_bias": True, "partial_rotary_factor": 0.5},
    "gpt_oss": {
        "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 4, "layer_types": _SLIDING,
        "rope_scaling": {
            "rope_type": "yarn", "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0,
            "original_max_position_embeddings": 64,
        },
    },
    "granitemoehybrid": {
        "logits_scaling": 2.0, "attention_multiplier": 0.25, "embedding_multiplier": 3.0, "residual_multiplier": 0.4,
        "attention_bias": False, "layer_types": ["mamba", "attention", "mamba"], "num_local_experts": 4,
        "num_experts_per_tok": 2, "shared_intermediate_size": 32, "mamba_n_heads": 4, "mamba_d_head": 16,
        "mamba_proj_bias": False, "mamba_d_state": 8, "mamba_d_conv": 3, "mamba_n_groups": 1, "mamba_conv_bias": True,
    },
    "helium": {"head_dim": 16, "attention_bias": False, "mlp_bias": False},
    "hunyuan_v1_dense": {"head_dim": 16},
    "internlm3": {"head_dim": 16},
    "kimi_k25": {"text_config": ("deepseek_v3", {**_LATENT, **_ROUTED, "num_key_value_heads": 4})},
    "kimi_k3": {
        "text_config": {
            **_LATENT, "linear_attn_config": _KDA, "num_experts": 4, "num_experts_per_token": 2,
            "num_key_value_heads": 4, "num_shared_experts": 1, "moe_intermediate_size": 32, "first_k_dense_replace": 1,
            "attn_res_block_size": 2,
        },
    },
    "kimi_linear": {
        **_LATENT, "linear_attn_config": _KDA, "model_max_length": 256, "num_experts": 4, "num_experts_per_token": 2,
        "num_shared_experts": 1, "moe_intermediate_size": 32, "first_k_dense_replace": 1, "num_key_value_heads": 4,
        "head_dim": 16,
    },
    "kimi_vl": {"text_config": {**_LATENT, **_ROUTED, "num_key_value_heads": 4}},
    "laguna": {
        **_EXPERTS, "shared_expert_intermediate_size": 32, "layer_types": _SLIDING, "sliding_window": 6, "head_dim": 16,
    },
    "lfm2": {
        **_SHORT_CONV, "block_dim": 64, "block_ff_dim": 96, "block_multiple_of": 8, "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
    },
    "lfm2_moe": {**_SHORT_CONV, **_EXPERTS, "use_expert_bias": True, "num_dense_layers": 1},
    "llama4": {
        "text_config": {
            "attention_bias": False, "attention_chunk_size": 6, "head_dim": 16, "interleave_moe_layer_step": 2,
            "intermediate_size_mlp": 64, "num_experts_per_tok": 1, "num_local_experts": 2, "use_qk_norm": True,
            "rope_scaling": None, "num_hidden_layers": 4,
        },
    },
    "longcat_flash": {
        **_LATENT, "attention_method": "MLA", "zero_expert_type": "identity", "ffn_hidden_size": 96, "moe_topk": 2,
        "expert_ffn_hidden_size": 32, "n_routed_experts": 4, "zero_expert_num": 2, "num_layers": 2,
        "routed_scaling_factor": 1.0, "mla_scale_q_lora": True, "mla_scale_kv_lora": True, "attention_bias": False,
    },
    "mimo": {"head_dim": 16, "num_nextn_predict_layers": 0},
    "minimax": {
        "num_experts_per_tok": 2, "num_local_experts": 4, "shared_intermediate_size": 32, "rotary_dim": 8,
        "head_dim": 16,
    },
    "muse_glimmer": {"head_dim": 16, "layer_types": _SLIDING, "sliding_window": 6},
    "muse_spark": {
        "text_config": {
            "head_dim": 16, "post_norm_eps": 1e-6, "rope_parameters": {"rope_theta": 10000.0},
            "layer_rope_theta": [10000.0, 0.0, 10000.0], "layer_types": _SLIDING, "sliding_window": 6,
            "final_logit_softcapping": 20.0, "output_multiplier": 0.5, "num_local_experts": 4, "num_experts_per_tok": 2,
            "moe_hidden_size": 32, "moe_intermediate_size": 32,
        },
    },
    "nanochat": {},
    "nemotron_h": {
        "attention_bias": False, "mamba_num_heads": 4, "mamba_head_dim": 16, "mamba_proj_bias": False,
        "ssm_state_size": 8, "conv_kernel": 3, "n_groups": 1, "mlp_bias": False, "layer_norm_epsilon": 1e-5,
        "use_bias": False, "use_conv_bias": True, "hybrid_override_pattern": ["M", "-", "*", "-"], "head_dim": 16,
    },
    "olmo3": {"sliding_window": 6, "layer_types": _SLIDING},
    "openelm": {
        "base": False, "head_dim": 16, "num_transformer_layers": 3, "model_dim": 64, "vocab_size": VOCAB,
        "ffn_dim_divisor": 8, "num_query_heads": [4, 4, 4], "num_kv_heads": [2, 2, 2],
        "ffn_multipliers": [1.0, 1.5, 2.0], "rms_norm_eps": 1e-5,
    },
    "phi3small": {
        "dense_attention_every_n_layers": 2, "ff_intermediate_size": 96, "gegelu_limit": 20.0,
        "layer_norm_epsilon": 1e-5, "blocksparse_block_size": 32, "blocksparse_num_local_blocks": 2,
        "blocksparse_vert_stride": 2, "vocab_size": 100352, "num_hidden_layers": 2,  # it rules out tokens near the end
    },
    "phimoe": {
        "original_max_position_embeddings": 256, "num_local_experts": 4,
        "rope_scaling": {"short_factor": [1.0] * 8, "long_factor": [1.0] * 8, "short_mscale": 1.0, "long_mscale": 1.0},
    },
    "phixtral": {
        "base": False, "num_vocab": VOCAB, "model_dim": 64, "num_heads": 4, "num_layers": 3, "rotary_dim": 8,
        "num_local_experts": 4,
    },
    "pixtral": {"text_config": ("llama", {})},
    "plamo2": {
        "hidden_size_per_head": 16, "attention_window_size": 6, "mamba_d_state": 8, "mamba_d_conv": 3,
        "mamba_num_heads": 4, "num_hidden_layers": 4,
    },
    "plamo3": {"window_size": 6, "sliding_window_pattern": 2, "head_dim": 16},
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 32},
    "qwen2_vl": {"text_config": ("qwen2", {})},
    "seed_oss": {"head_dim": 16, "tie_word_embeddings": False},
    "smollm3": {"no_rope_layer_interval": 2},
    "spark2_5": {
        "sliding_window": 6, "layer_types": _SLIDING, "head_dim": 16,
        "rope_parameters": {
            "full_attention": {"rope_theta": 10000.0, "rope_type": "default"},
            "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
        },
    },
    "talkie": {"head_dim": 16, "num_key_value_heads": 4},
    "youtu_llm": {**_LATENT, "num_key_value_heads": 4},
}  # fmt: skip


def config(name: str) -> dict[str, Any]:
    """The configuration of a tiny model, as `config.json` holds it."""
    own = dict(MORE[name])
    text = own.pop("text_config", None)
    base = models._LLAMA if own.pop("base", True) and text is None else {}
    if text is not None:
        kind, changes = text if isinstance(text, tuple) else (name, text)
        own["text_config"] = {"model_type": kind, **models._LLAMA, **changes}
    return {"model_type": name, **base, **own}


def build(module: str, arguments: dict[str, Any], seed: int = 0) -> nn.Module:
    """A model of an mlx-lm module, with weights wide enough that edits matter, and none of them zero."""
    library = importlib.import_module(f"mlx_lm.models.{module}")
    mx.random.seed(seed)
    net = library.Model(library.ModelArgs.from_dict(arguments))
    packed = {p: x for p, x in tree_flatten(net.parameters()) if not mx.issubdtype(x.dtype, mx.floating)}
    models._widen(net, seed)
    filled = {path: _filled(x) for path, x in {**dict(tree_flatten(net.parameters())), **packed}.items()}
    net.update(tree_unflatten(list(filled.items())))
    net.eval()
    mx.eval(net.parameters())
    return net


def _filled(x: mx.array) -> mx.array:
    if not x.size or mx.any(x != 0):
        return x
    if x.dtype == mx.uint32:  # packed weights
        return mx.random.randint(0, 1 << 31, x.shape).astype(x.dtype)
    return (0.3 * mx.random.normal(x.shape)).astype(x.dtype)


def make(name: str, seed: int = 0) -> nn.Module:
    """A tiny model of MORE."""
    return build(name, config(name), seed)
