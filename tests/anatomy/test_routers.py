"""The router of every family of mixtures of experts: which module it is, or why there is none; and patches of it."""

from __future__ import annotations

import functools

import mlx.core as mx
import mlx.nn as nn
import models
import more_models
import numpy as np
import pytest

from mlxtrace import InterpretableModel, errors

CLEAN, CORRUPTED = [3, 17, 5, 90, 41, 8, 33], [3, 17, 66, 91, 41, 8, 33]

# Families beside those of `models` and `more_models`, or with other layers than there.
FAMILIES = {
    "qwen3_moe": {**models._LLAMA, **models._QWEN_MOE, "head_dim": 16, "decoder_sparse_step": 1, "mlp_only_layers": []},
    "olmoe": {**models._LLAMA, **more_models._EXPERTS},
    "granitemoe": {
        **models._LLAMA, "logits_scaling": 2.0, "attention_multiplier": 0.25, "embedding_multiplier": 3.0,
        "residual_multiplier": 0.4, "attention_bias": False, "num_local_experts": 4, "num_experts_per_tok": 2,
    },
    "bailing_moe": {
        **models._LLAMA, **more_models._EXPERTS, "num_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1,
        "topk_group": 1, "head_dim": 16, "score_function": "softmax",
    },
    "dbrx": {
        "vocab_size": models.VOCAB, "d_model": 64, "n_layers": 2, "n_heads": 4,
        "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
    },
    "gemma4_text": {
        **models.config("gemma4_text"), "enable_moe_block": True, "num_experts": 4, "top_k_experts": 2,
        "moe_intermediate_size": 32,
    },
    "nemotron_h": {
        **more_models.config("nemotron_h"), "hybrid_override_pattern": ["M", "E", "*", "-"], "n_routed_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 32, "moe_shared_expert_intermediate_size": 32, "n_group": 1,
        "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 1.0, "n_shared_experts": 1,
    },
}  # fmt: skip
# family: (a layer with experts, the router inside it, how many logits)
ROUTERS = {
    "mixtral": (0, "block_sparse_moe.gate", 4),
    "qwen3_next": (1, "mlp.gate", 4),
    "jamba": (1, "feed_forward.router", 2),
    "afmoe": (1, "mlp.router", 4),
    "bailing_moe_linear": (1, "mlp.gate.gate_proj", 4),
    "ernie4_5_moe": (1, "mlp.gate", 4),
    "gpt_oss": (0, "mlp.router", 4),
    "granitemoehybrid": (0, "block_sparse_moe.router.layer", 4),
    "kimi_k3": (1, "mlp.gate", 4),
    "kimi_linear": (1, "mlp.gate", 4),
    "laguna": (1, "mlp.gate.proj", 4),
    "lfm2_moe": (1, "feed_forward.gate", 4),
    "llama4": (1, "feed_forward.router", 2),
    "longcat_flash": (0, "mlp.router.classifier", 6),
    "minimax": (0, "block_sparse_moe.gate", 4),
    "phimoe": (0, "block_sparse_moe.gate", 4),
    "phixtral": (0, "moe.gate", 4),
    "qwen2_moe": (0, "mlp.gate", 4),
    "qwen3_moe": (0, "mlp.gate", 4),
    "olmoe": (0, "mlp.gate", 4),
    "granitemoe": (0, "block_sparse_moe.router.layer", 4),
    "bailing_moe": (1, "mlp.gate.gate_proj", 4),
    "dbrx": (0, "ffn.router", 4),
    "gemma4_text": (0, "router.proj", 4),
}
# family: a layer with experts whose gate is one module with its choice
REFUSED = {
    "deepseek": 1, "deepseek_v2": 1, "deepseek_v3": 1, "deepseek_v32": 1, "deepseek_v41": 0, "kimi_k25": 1,
    "kimi_vl": 1, "nemotron_h": 1,
}  # fmt: skip


@functools.cache
def model_of(name: str) -> InterpretableModel:
    if name in FAMILIES:
        return InterpretableModel(more_models.build(name, {"model_type": name, **FAMILIES[name]}))
    return InterpretableModel(models.make(name) if name in models.CONFIGS else more_models.make(name))


@pytest.mark.parametrize("name", ROUTERS)
def test_the_router_is_the_module_that_gives_each_expert_its_logit(name):
    layer, path, experts = ROUTERS[name]
    model = model_of(name)
    site = model.resolver.site("router", layer)
    assert site.path == f"{model.resolver.layer(layer).path}.{path}"
    _, kept = model.run_with_cache(CLEAN, sites=[site.name])
    logits = kept[site.name]
    assert logits.shape == (1, len(CLEAN), experts)
    assert float(logits.min()) < 0, "logits, not probabilities"


@pytest.mark.parametrize("name", REFUSED)
def test_gates_that_give_out_their_choice_only_are_refused(name):
    resolver = model_of(name).resolver
    with pytest.raises(errors.UnsupportedError, match="gives out the choice of experts only"):
        resolver.site("router", REFUSED[name])
    with pytest.raises(errors.UnsupportedError, match="choice of experts only"):
        resolver.resolve(f"layers.{REFUSED[name]}.router")


def test_dense_layers_have_none(llama):
    with pytest.raises(errors.UnsupportedError, match="no mixture of experts"):
        llama.resolver.site("router", 0)


@pytest.mark.parametrize("name", ROUTERS)
def test_every_position_patched_by_the_engine_of_the_model_and_by_the_loop(name):
    """The engine runs the MLP on the tokens that can differ only: the router's tokens must be among them."""
    layer, _, _ = ROUTERS[name]
    asked = dict(
        component="router", layers=layer, positions="each", metric=["l2", "kl"], target=7, progress=False
    )
    model = model_of(name)
    result = model.activation_patching(CLEAN, CORRUPTED, **asked)
    loop = model.activation_patching(CLEAN, CORRUPTED, **asked, engine="loop")
    np.testing.assert_allclose(result.raw, loop.raw, rtol=2e-4, atol=5e-5)
    assert np.abs(loop.raw[0] - loop.corrupted["l2"]).max() > 1e-4, "no cell does anything"


# olmoe and phixtral choose experts as mixtral does, from layers of other make, which are patched above.
@pytest.mark.parametrize(
    "name",
    ["mixtral", "gemma4_text", *(pytest.param(n, marks=pytest.mark.heavy) for n in ("olmoe", "phixtral"))],
)
def test_routers_and_other_components_in_one_sweep(name):
    """Cells of several components share a pass; windows patch several layers of it."""
    asked = dict(
        layers=[0, 1],
        positions="each",
        metric="l2",
        progress=False,
        component=["router", "attn", "resid_pre"],
    )
    model = model_of(name)
    for window in (1, 2):
        result = model.activation_patching(CLEAN, CORRUPTED, **asked, window=window)
        loop = model.activation_patching(CLEAN, CORRUPTED, **asked, window=window, engine="loop")
        np.testing.assert_allclose(result.raw, loop.raw, rtol=2e-4, atol=5e-5)


def test_forcing_an_expert_is_forcing_its_output():
    """What the experts then give is that expert's output, taken from the module itself."""
    model = model_of("llama4")
    layer, _, experts = ROUTERS["llama4"]

    def first(x):
        return mx.where(mx.arange(experts) == 0, 50.0, -50.0) + 0 * x

    with model.trace(CLEAN, interventions={f"layers.{layer}.router": first}) as trace:
        given = model.layers[layer].feed_forward.input.save()
        mlp = model.layers[layer].feed_forward.output.save()
    moe = model.net.layers[layer].feed_forward
    expert = moe.experts(given, mx.zeros((1, len(CLEAN), 1), dtype=mx.int32)).squeeze(2)
    assert mx.allclose(mlp, expert + moe.shared_expert(given), rtol=1e-4, atol=1e-5)
    assert trace.output is not None


def test_edits_of_a_router_in_rows_have_tokens():
    model = model_of("olmoe")
    with model.trace(mx.array([CLEAN, CORRUPTED])) as trace:
        logits = model.layers[1].router.output
        assert logits.shape == (2, len(CLEAN), 4)
        logits[1] = logits[0]
    assert mx.array_equal(trace.activations["layers.1.router"][0], trace.activations["layers.1.router"][1])


class Misleading(nn.Module):
    """Experts beside linear maps with an output for each expert that choose nothing."""

    def __init__(self, width: int, experts: int):
        super().__init__()
        from mlx_lm.models.switch_layers import SwitchGLU

        self.before = nn.Linear(width, experts, bias=False)
        self.gate = nn.Linear(width, experts, bias=False)
        self.experts = SwitchGLU(width, 16, experts)

    def __call__(self, x: mx.array) -> mx.array:
        scores = mx.softmax(self.gate(x), axis=-1)
        chosen = mx.argpartition(-scores, kth=0, axis=-1)[..., :1]
        y = (self.experts(x, chosen) * mx.take_along_axis(scores, chosen, axis=-1)[..., None]).sum(-2)
        return y + 0 * self.before(x).sum(-1, keepdims=True)


def test_a_map_that_chooses_nothing_is_no_router():
    net = models.make("llama")
    for layer in net.model.layers:
        layer.mlp = Misleading(64, 4)
    mx.eval(net.parameters())
    site = InterpretableModel(net).resolver.site("router", 1)
    assert site.path == "model.layers.1.mlp.gate"
