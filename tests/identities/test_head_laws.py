"""Laws of heads and of what is inside attention: against loops written by hand, and on every kind of attention."""

from __future__ import annotations

import mlx.core as mx
import models
import more_models
import numpy as np
import pytest

from mlxtrace import GaussianNoise, InterpretableModel
from mlxtrace.metrics import softmax

CLEAN = [3, 17, 40, 41, 52, 60, 77, 8, 9]
CORRUPTED = [3, 17, 90, 91, 52, 60, 77, 8, 9]
HEADED = ("head", "q", "k", "v", "pattern")
# Grouped keys, one key head, windows, sinks, latent attention, gates, parallel layers, shared keys, a second visit.
KINDS = [
    "llama", "gpt2", "gemma3_text", "gemma4_text", "cohere", "qwen3_next", "nanbeige", "phi3",
    "gpt_oss", "deepseek_v3", "deepseek_v32", "afm7", "olmo3", "kimi_linear",
]  # fmt: skip


@pytest.fixture(scope="module")
def llama():
    return InterpretableModel(models.make("llama"))


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    name = request.param
    return InterpretableModel((models if name in models.CONFIGS else more_models).make(name))


# ---- a loop written by hand: a Llama in plain mlx, attention spelt out


def rope(x):
    return mx.fast.rope(x, x.shape[-1], traditional=False, base=10000.0, scale=1.0, offset=0)


def by_hand(net, tokens, edit, embedded=None):
    """Last-position logits. `edit(layer, component, x)` sees `[1, T, heads, width]`, patterns `[1, heads, T, T]`."""
    inner = net.model
    h = inner.embed_tokens(mx.array([tokens])) if embedded is None else embedded
    mask = mx.tril(mx.ones((len(tokens), len(tokens)), dtype=mx.bool_))
    for i, layer in enumerate(inner.layers):
        a, x = layer.self_attn, layer.input_layernorm(h)
        split = lambda p, n, x=x: p(x).reshape(1, len(tokens), n, -1)  # noqa: E731
        q = rope(split(a.q_proj, 4).swapaxes(1, 2)).swapaxes(1, 2)
        k = rope(split(a.k_proj, 2).swapaxes(1, 2)).swapaxes(1, 2)
        q, k, v = edit(i, "q", q), edit(i, "k", k), edit(i, "v", split(a.v_proj, 2))
        keys, values = mx.repeat(k, 2, axis=2), mx.repeat(v, 2, axis=2)
        scores = mx.einsum("bqhd,bkhd->bhqk", q, keys) * q.shape[-1] ** -0.5
        pattern = edit(i, "pattern", mx.softmax(mx.where(mask, scores, -mx.inf), axis=-1))
        head = edit(i, "head", mx.einsum("bhqk,bkhd->bqhd", pattern, values))
        h = h + a.o_proj(head.reshape(1, len(tokens), -1))
        h = h + layer.mlp(layer.post_attention_layernorm(h))
    return np.array(net.lm_head(inner.norm(h))[0, -1])


def recorded(net, tokens):
    kept = {}
    logits = by_hand(net, tokens, lambda i, c, x: kept.setdefault((i, c), mx.array(x)))
    return logits, kept


def put(x, source, component, positions, heads):
    """A copy of `x` with the source's values at some positions and heads; both with heads third."""
    x = mx.array(x)
    for p in positions:
        for h in heads:
            where = (slice(None), h, p) if component == "pattern" else (slice(None), p, h)
            x[where] = source[where]
    return x


def patched(net, base, kept, component, cells):
    """Logits of a run on `base` with `cells`: (layer, positions, heads), patched together."""

    def edit(i, c, x):
        for layer, positions, heads in cells:
            if c == component and i == layer:
                x = put(x, kept[i, c], c, positions, heads)
        return x

    return by_hand(net, base, edit)


def probability(logits, token):
    return softmax(logits.astype(np.float64))[token]


EVERYWHERE = range(len(CLEAN))


@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize("component", HEADED)
def test_layer_by_head_equals_the_loop(llama, component, direction):
    base, source = (CORRUPTED, CLEAN) if direction == "denoise" else (CLEAN, CORRUPTED)
    clean, _ = recorded(llama.net, CLEAN)
    _, kept = recorded(llama.net, source)
    target = int(clean.argmax())
    result = llama.activation_patching(
        CLEAN, CORRUPTED, component, metric="prob", direction=direction, progress=False
    )
    n = 2 if component in "kv" else 4
    assert result.dims == ("layer", "head") and result.raw.shape == (3, n)
    for layer in range(3):
        for head in range(n):
            logits = patched(llama.net, base, kept, component, [(layer, EVERYWHERE, [head])])
            assert result.raw[layer, head] == pytest.approx(probability(logits, target), abs=2e-6)


@pytest.mark.parametrize("component", HEADED)
def test_layer_by_position_by_head_equals_the_loop(llama, component):
    clean, kept = recorded(llama.net, CLEAN)
    target = int(clean.argmax())
    result = llama.activation_patching(
        CLEAN, CORRUPTED, component, positions="each", metric="prob", progress=False
    )
    n = 2 if component in "kv" else 4
    assert result.dims == ("layer", "position", "head") and result.raw.shape == (3, 9, n)
    for layer, position, head in [(0, 2, 0), (0, 3, 1), (1, 3, 1), (1, 8, 0), (2, 8, 1), (1, 5, n - 1)]:
        logits = patched(llama.net, CORRUPTED, kept, component, [(layer, [position], [head])])
        assert result.raw[layer, position, head] == pytest.approx(probability(logits, target), abs=2e-6)


@pytest.mark.parametrize("component", HEADED)
def test_windows_and_positions_together_equal_the_loop(llama, component):
    clean, kept = recorded(llama.net, CLEAN)
    result = llama.activation_patching(
        CLEAN, CORRUPTED, component, positions=[3, 8], heads=[1], window=2, metric="prob", progress=False
    )
    for layer in range(3):
        window = [i for i in (layer - 1, layer) if i >= 0]
        logits = patched(llama.net, CORRUPTED, kept, component, [(i, [3, 8], [1]) for i in window])
        assert result.raw[layer] == pytest.approx(probability(logits, int(clean.argmax())), abs=2e-6)


def test_noise_on_the_embeddings_and_heads_restored_equals_the_loop(llama):
    noise = GaussianNoise(range(2, 4), level=0.5, samples=3, seed=7)
    drawn = mx.array(np.random.RandomState(7).randn(3, 2, llama.d_model) * 0.5).astype(mx.float32)
    clean, kept = recorded(llama.net, CLEAN)
    for component in ("head", "v", "pattern"):
        result = llama.activation_patching(CLEAN, noise, component, metric="prob", progress=False)
        for layer, head in [(0, 0), (1, 1), (2, 0)]:
            scores = []
            for sample in range(3):
                h = llama.net.model.embed_tokens(mx.array([CLEAN]))
                h[:, 2:4] = h[:, 2:4] + drawn[sample]

                def edit(i, c, x, component=component, layer=layer, head=head):
                    if (i, c) == (layer, component):
                        x = put(x, kept[i, c], c, EVERYWHERE, [head])
                    return x

                logits = by_hand(llama.net, CLEAN, edit, h)
                scores.append(probability(logits, int(clean.argmax())))
            assert result.raw[layer, head] == pytest.approx(np.mean(scores), abs=2e-6)


def test_heads_named_in_a_list_are_patched_together(llama):
    clean, kept = recorded(llama.net, CLEAN)
    target = int(clean.argmax())
    both = llama.activation_patching(
        CLEAN, CORRUPTED, ["head", "q"], heads=[0, 3], metric="prob", progress=False
    )
    assert both.dims == ("component", "layer")
    for row, component in zip(both.raw, ("head", "q"), strict=True):
        for layer in range(3):
            logits = patched(llama.net, CORRUPTED, kept, component, [(layer, EVERYWHERE, [0, 3])])
            assert row[layer] == pytest.approx(probability(logits, target), abs=2e-6)
    each = llama.activation_patching(CLEAN, CORRUPTED, "head", metric="prob", progress=False)
    assert (
        np.abs(each.raw[:, [0, 3]].sum(1) - both.raw[0]).max() > 1e-4
    )  # heads interact: no sum of single ones


# ---- on every kind of attention


def whole(model, component):
    layers = [i for i in range(model.n_layers) if f"layers.{i}.{component}" in model.resolver.table]
    return layers


def test_the_mixers_output_is_the_sum_of_its_heads(model):
    """Each head through its own columns of the output projection."""
    _, cache = model.run_with_cache(CLEAN)
    for layer in whole(model, "head"):
        heads = cache[f"layers.{layer}.head"]
        projection = model.resolver.paths[model.resolver.layer(layer).out_proj]
        nothing = projection(mx.zeros_like(heads).reshape(1, len(CLEAN), -1))
        total = nothing
        for h in range(heads.shape[2]):
            alone = mx.zeros_like(heads)
            alone[:, :, h] = heads[:, :, h]
            total = total + projection(alone.reshape(1, len(CLEAN), -1)) - nothing
        right = cache[f"layers.{layer}.attn"]
        assert mx.abs(total - right).max() <= 2e-5 * mx.maximum(1, mx.abs(right).max())


@pytest.mark.parametrize("component", HEADED)
def test_the_engines_agree(model, component):
    layers = whole(model, component)
    counts = {model.resolver.head_count(component, i): i for i in layers}
    layers = [i for i in layers if model.resolver.head_count(component, i) == next(iter(counts))]
    options = dict(component=component, layers=layers, metric="logit", progress=False)
    for more in ({}, {"positions": [3, 8], "direction": "noise"}, {"positions": "each", "heads": [0]}):
        if "positions" in more and more["positions"] == "each":
            options["layers"] = layers[-1:]
        found = model.activation_patching(CLEAN, CORRUPTED, **options, **more)
        right = model.activation_patching(CLEAN, CORRUPTED, engine="loop", **options, **more)
        assert found.plan.engine != "loop"
        scale = max(1, np.abs(right.raw).max())
        np.testing.assert_allclose(found.raw, right.raw, atol=5e-5 * scale, rtol=0)
        assert np.abs(found.raw - found.raw.flat[0]).max() > 0 or found.raw.size == 1


def test_patterns_and_values_of_another_run_give_its_heads(model):
    _, other = model.run_with_cache(CORRUPTED)
    for layer in whole(model, "pattern"):
        if gated(model, layer):
            continue
        edits = {
            f"layers.{layer}.{c}": (lambda _, x=other[f"layers.{layer}.{c}"]: x) for c in ("pattern", "v")
        }
        with model.trace(CLEAN, interventions=edits) as trace:
            pass
        heads, right = (run[f"layers.{layer}.head"] for run in (trace.activations, other))
        assert mx.abs(heads - right).max() <= 5e-5 * mx.maximum(1, mx.abs(right).max())


def gated(model, layer):
    """Whether what is projected is not what attention returned."""
    _, cache = model.run_with_cache(CLEAN, sites=[f"layers.{layer}.{c}" for c in ("pattern", "v", "head")])
    pattern, v, head = (cache[f"layers.{layer}.{c}"] for c in ("pattern", "v", "head"))
    v = mx.repeat(v, pattern.shape[1] // v.shape[2], axis=2)
    out = mx.einsum("bhqk,bkhd->bqhd", pattern, v)
    return out.shape != head.shape or bool(mx.abs(out - head).max() > 1e-4)
