"""Inside attention: queries, keys, values and patterns as the attention call sees them, in every kind of access."""

from __future__ import annotations

import threading

import mlx.core as mx
import more_models
import numpy as np
import pytest
from models import make

from mlxtrace import ActivationCache, InterpretableModel, errors
from mlxtrace.anatomy import attention
from mlxtrace.anatomy.recording import forward

IDS = [3, 17, 40, 41, 52, 60, 77, 8, 9]
OTHER = [3, 17, 90, 91, 52, 60, 77, 8, 9]
INTERNALS = ("q", "k", "v", "pattern")


@pytest.fixture(scope="module")
def llama():
    return InterpretableModel(make("llama"))


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert mx.fast.scaled_dot_product_attention is attention.plain_attention
    assert not attention._open.running()


def numpy(x):
    return np.array(x.astype(mx.float32)).astype(np.float64)


def rope(x, base=10000.0):
    """Rotary positions of `[T, heads, width]`, pairs half a width apart, as Llama has them."""
    half = x.shape[-1] // 2
    angles = np.arange(len(x))[:, None] * base ** (-np.arange(half) / half)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def softmax(scores, sinks=None):
    """Over the last axis of `[heads, T, T]`; a sink per head takes part and is then left out."""
    if sinks is not None:
        scores = np.concatenate(
            [scores, np.broadcast_to(sinks[:, None, None], (*scores.shape[:2], 1))], axis=-1
        )
    e = np.exp(scores - scores.max(-1, keepdims=True))
    e /= e.sum(-1, keepdims=True)
    return e if sinks is None else e[..., :-1]


def causal(n, window=None):
    i, j = np.mgrid[:n, :n]
    return (j <= i) & (i - j < (window or n))


def by_hand(net, x, layer):
    """Queries, keys, values `[T, heads, width]`, pattern and heads of a Llama's attention on its input `[T, D]`."""
    a = net.model.layers[layer].self_attn
    q, k, v = (
        (x @ numpy(p.weight).T).reshape(len(x), n, -1)
        for p, n in ((a.q_proj, 4), (a.k_proj, 2), (a.v_proj, 2))
    )
    q, k = rope(q), rope(k)
    shared = np.repeat(k, 2, axis=1), np.repeat(v, 2, axis=1)
    scores = np.einsum("qhd,khd->hqk", q, shared[0]) * q.shape[-1] ** -0.5
    weights = softmax(np.where(causal(len(x)), scores, -np.inf))
    return {"q": q, "k": k, "v": v, "pattern": weights, "head": np.einsum("hqk,khd->qhd", weights, shared[1])}


# ---- what is seen


@pytest.mark.parametrize("layer", [0, 2])
def test_what_is_seen_is_what_llama_computes(llama, layer):
    names = [f"layers.{layer}.{c}" for c in ("q", "k", "v", "pattern", "head")]
    _, cache = llama.run_with_cache(IDS, sites=[*names, f"model.layers.{layer}.input_layernorm"])
    right = by_hand(llama.net, numpy(cache[f"layers.{layer}.input_layernorm"])[0], layer)
    for name in names:
        component = name.rsplit(".", 1)[-1]
        np.testing.assert_allclose(numpy(cache[name])[0], right[component], atol=2e-5, err_msg=name)


@pytest.mark.parametrize("name", ["gpt_oss", "gemma3_text", "llama", "gpt2"])
def test_patterns_have_the_true_mask_and_the_sinks(name):
    """Recomputed in float64 from queries and keys, with the layer's own window and sinks."""
    net = more_models.make(name) if name == "gpt_oss" else make(name)
    model = InterpretableModel(net)
    _, cache = model.run_with_cache(IDS)
    layers = net.model.h if name == "gpt2" else net.model.layers
    windows = set()
    for i, layer in enumerate(layers):
        a = layer.attn if name == "gpt2" else layer.self_attn
        q, k = (numpy(cache[f"layers.{i}.{c}"])[0] for c in "qk")
        window = None
        if name == "gpt_oss" and net.args.layer_types[i] == "sliding_attention":
            window = net.args.sliding_window
        if name == "gemma3_text" and a.is_sliding:
            window = 8
        scale = getattr(a, "scale", None) or getattr(a, "sm_scale", None)
        k = np.repeat(k, q.shape[1] // k.shape[1], axis=1)
        scores = np.where(causal(len(IDS), window), np.einsum("qhd,khd->hqk", q, k) * scale, -np.inf)
        sinks = numpy(a.sinks) if name == "gpt_oss" else None
        seen = numpy(cache[f"layers.{i}.pattern"])[0]
        np.testing.assert_allclose(seen, softmax(scores, sinks), atol=1e-6)
        total = seen.sum(-1)
        if name == "gpt_oss":
            assert total.min() < 0.9 and total.max() <= 1 + 1e-6
        else:
            np.testing.assert_allclose(total, 1, atol=1e-6)
        windows.add(window)
    assert len(windows) == (2 if name in ("gpt_oss", "gemma3_text") else 1)


def test_latent_attention_has_its_position_scores_in_the_mask():
    """The pattern is of the whole score, q and k without positions and the rotated rest together."""
    net = more_models.make("deepseek_v3")
    model = InterpretableModel(net)
    _, cache = model.run_with_cache(IDS)
    for i, layer in enumerate(net.model.layers):
        a, x = layer.self_attn, cache[f"layers.{i}.input_layernorm"]
        q = a.q_b_proj(a.q_a_layernorm(a.q_a_proj(x))).reshape(1, len(IDS), 4, -1).swapaxes(1, 2)
        q_pe = a.rope(q[..., a.qk_nope_head_dim :])
        k_pe = a.rope(a.kv_a_proj_with_mqa(x)[:, None, :, a.kv_lora_rank :])
        q, k = (numpy(cache[f"layers.{i}.{c}"])[0] for c in "qk")
        plain = np.einsum("qhd,khd->hqk", q, np.repeat(k, 4 // k.shape[1], axis=1)) * a.scale
        turned = numpy(q_pe @ k_pe.swapaxes(-1, -2))[0] * a.scale
        right = softmax(np.where(causal(len(IDS)), plain + turned, -np.inf))
        np.testing.assert_allclose(numpy(cache[f"layers.{i}.pattern"])[0], right, atol=2e-6)
        without = softmax(np.where(causal(len(IDS)), plain, -np.inf))
        assert np.abs(without - right).max() > 1e-3


def test_shapes_and_counts(llama):
    _, cache = llama.run_with_cache(IDS)
    shapes = {c: tuple(cache[f"layers.1.{c}"].shape) for c in ("q", "k", "v", "pattern", "head")}
    assert shapes == {
        "q": (1, 9, 4, 16), "k": (1, 9, 2, 16), "v": (1, 9, 2, 16), "pattern": (1, 4, 9, 9), "head": (1, 9, 4, 16),
    }  # fmt: skip
    counts = {c: llama.resolver.head_count(c, 1) for c in shapes}
    assert counts == {"q": 4, "k": 2, "v": 2, "pattern": 4, "head": 4}


# ---- traces


@pytest.mark.parametrize("component", INTERNALS)
def test_a_body_reads_and_edits(llama, component):
    with llama.trace(IDS) as trace:
        x = getattr(llama.layers[1], component).output.save()
        before = mx.array(x)
        x[:, 3] = 0 * x[:, 3] + 0.25
        after = llama.layers[1].attn.output.save()
    with llama.trace(IDS, interventions={f"layers.1.{component}": lambda y: _set(y, 3)}) as declared:
        pass
    _, cache = llama.run_with_cache(IDS)
    assert mx.array_equal(before, cache[f"layers.1.{component}"])
    assert mx.array_equal(trace.output, declared.output)
    assert mx.abs(trace.output - _plain(llama)).max() > 1e-3
    changed = np.abs(np.array(after) - np.array(cache["layers.1.attn"])).max(axis=(0, 2)) > 0
    # a query or a row of the pattern concerns its own position; a key or a value all that look at it
    expected = {"q": [3], "pattern": range(9), "k": range(3, 9), "v": range(3, 9)}[component]
    assert set(np.flatnonzero(changed)) == set(expected)


def _set(y, position):
    y = mx.array(y)
    y[:, position] = 0.25
    return y


def _plain(model):
    logits = model.net(mx.array([IDS]))
    mx.eval(logits)
    return logits


def test_the_order_of_a_body(llama):
    with llama.trace(IDS) as trace:
        names = ["resid_pre", "q", "k", "v", "pattern", "head", "attn"]
        seen = [getattr(llama.layers[2], name).output.save() for name in names]
    assert mx.array_equal(trace.output, _plain(llama))
    for name, x in zip(names, seen, strict=True):
        assert mx.array_equal(x, trace.activations[f"layers.2.{name}"])
    with pytest.raises(errors.OrderError, match="has gone by"), llama.trace(IDS):
        llama.layers[1].pattern.output.save()
        llama.layers[1].q.output[:] = 0


def test_a_pattern_put_in_place_makes_the_output(llama):
    """Every query looks at the first token alone: all heads are its values."""
    looking = mx.zeros((1, 4, 9, 9))
    looking[..., 0] = 1
    with llama.trace(IDS) as trace:
        v = llama.layers[1].v.output.save()
        llama.layers[1].pattern.output = looking
        heads = llama.layers[1].head.output.save()
    first = np.repeat(np.array(v)[:, :1], 2, axis=2)
    np.testing.assert_allclose(np.array(heads), np.broadcast_to(first, (1, 9, 4, 16)), atol=1e-6)
    with pytest.raises(errors.EditError), llama.trace(IDS):
        llama.layers[1].pattern.output = looking[:, :2]
    del trace


def test_only_changed_rows_of_a_pattern_are_recomputed(llama):
    def edit(x):
        x = mx.array(x)
        x[:, 2, 5] = x[:, 2, 5] * 0.5
        return x

    with llama.trace(IDS, interventions={"layers.0.pattern": edit}) as trace:
        pass
    _, plain = llama.run_with_cache(IDS)
    a, b = np.array(trace.activations["layers.0.head"]), np.array(plain["layers.0.head"])
    assert set(zip(*np.nonzero((a != b).any(-1))[1:], strict=True)) == {(5, 2)}
    np.testing.assert_allclose(a[0, 5, 2], b[0, 5, 2] * 0.5, atol=1e-6)


def test_the_cache_finds_saves_and_loads(llama, tmp_path):
    _, some = llama.run_with_cache(IDS, sites=["layers.2.pattern", "layers.0.k"])
    assert some["layers.2.pattern"].shape == (1, 4, 9, 9)
    with pytest.raises(errors.SiteError):
        some["layers.1.pattern"]
    some.save(tmp_path / "some.safetensors")
    again = ActivationCache.load(tmp_path / "some.safetensors")
    for name in ("layers.2.pattern", "layers.0.k"):
        assert mx.array_equal(again[name], some[name])
    with llama.trace(
        IDS, interventions={"layers.2.pattern": lambda _, x=again["layers.2.pattern"]: x}
    ) as trace:
        pass
    assert mx.array_equal(trace.output, _plain(llama))


def test_activations_of_one_run_in_another(llama):
    """All queries, keys and values of a layer from another run: that run's heads, and its mixer's output."""
    _, other = llama.run_with_cache(OTHER)
    edits = {f"layers.1.{c}": (lambda _, x=other[f"layers.1.{c}"]: x) for c in "qkv"}
    with llama.trace(IDS, interventions=edits) as trace:
        pass
    for name in ("pattern", "head", "attn"):
        np.testing.assert_allclose(
            trace.activations[f"layers.1.{name}"], other[f"layers.1.{name}"], atol=1e-6
        )


# ---- what is left behind: nothing (every test here looks, see the fixture)


class Stop(Exception):
    pass


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("component", INTERNALS)
def test_an_exception_in_the_body(llama, error, component):
    with pytest.raises(error), llama.trace(IDS):
        getattr(llama.layers[1], component).output.save()
        assert mx.fast.scaled_dot_product_attention is not attention.plain_attention
        raise error
    assert mx.array_equal(llama.net(mx.array([IDS])), _plain(llama))


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
def test_an_exception_in_an_intervention(llama, error):
    def fails(x):
        raise error

    with pytest.raises(error), llama.trace(IDS, interventions={"layers.1.k": fails}):
        pass


def test_nested_traces_do_not_see_each_other(llama):
    with llama.trace(IDS) as outer:
        q = llama.layers[1].q.output
        with llama.trace(OTHER) as inner:
            theirs = llama.layers[1].q.output.save()
            llama.layers[2].pattern.output.save()
        q[:, 2] = theirs[:, 2]
        plain = forward(
            llama.net, mx.array([IDS])
        )  # the model itself, while the trace waits inside attention
    _, other = llama.run_with_cache(OTHER)
    assert mx.array_equal(theirs, other["layers.1.q"])
    assert mx.array_equal(plain, _plain(llama))
    assert mx.array_equal(outer.activations["layers.1.q"][:, 2], other["layers.1.q"][:, 2])
    assert mx.array_equal(inner.output, llama.net(mx.array([OTHER])))


def test_another_thread_is_not_intercepted(llama):
    seen = []
    right = np.array(_plain(llama))  # computed before, here

    def run():
        q = mx.ones((1, 2, 3, 4))
        seen.append(np.array(mx.fast.scaled_dot_product_attention(q, q, q, scale=1.0)))

    with llama.trace(IDS, interventions={"layers.1.v": lambda x: x * 0}) as trace:
        llama.layers[1].v.output.save()
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert np.allclose(seen[0], 1)
    assert np.abs(np.array(trace.output) - right).max() > 1e-3


def test_a_trace_left_open_in_another_thread(llama):
    """Its coroutine cannot be ended from here, but what it holds is given back."""
    made = []

    def run():
        trace = llama.trace(IDS)
        made.append(trace)
        trace.__enter__()
        llama.layers[1].q.output.save()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    made[0].__exit__(Stop, Stop(), None)
    assert mx.fast.scaled_dot_product_attention is attention.plain_attention


# ---- what cannot be had


@pytest.mark.parametrize("name", ["gemma2", "mamba"])
@pytest.mark.parametrize("component", INTERNALS)
def test_models_without_the_call_say_so(name, component):
    """Softcapped scores are computed by hand in gemma2, and a state space has none."""
    model = InterpretableModel(make(name))
    with pytest.raises(errors.UnsupportedError, match="no call of mlx's attention"):
        model.activation_patching(IDS, OTHER, component, layers=0)
    with pytest.raises(errors.MlxtraceError):
        model.run_with_cache(IDS, sites=[f"layers.0.{component}"])


def test_layers_without_attention_say_so_and_the_others_work():
    model = InterpretableModel(make("jamba"))  # attention in layers 1 and 3
    with pytest.raises(errors.UnsupportedError, match=r"layers\.0\.pattern"):
        model.activation_patching(IDS, OTHER, "pattern")
    result = model.activation_patching(IDS, OTHER, "pattern", layers=[1, 3], metric="logit", progress=False)
    assert result.raw.shape == (2, 4)


def test_prompts_of_different_lengths_have_no_patterns_in_common(llama):
    with pytest.raises(errors.AlignmentError, match="9 and 8 tokens"):
        llama.activation_patching(IDS, [*OTHER[:4], *OTHER[5:]], "pattern", align="ends", progress=False)
    result = llama.activation_patching(
        IDS, [*OTHER[:4], 7, *OTHER[4:]], "v", align="ends", metric="logit", progress=False
    )
    assert result.raw.shape == (3, 2)


def test_heads_that_do_not_exist(llama):
    for component, heads in (("head", 4), ("k", 2), ("pattern", [0, 7])):
        with pytest.raises(errors.PositionError, match="does not exist"):
            llama.activation_patching(IDS, OTHER, component, heads=heads)
    with pytest.raises(errors.InputError, match="different numbers of heads"):
        llama.activation_patching(IDS, OTHER, ["q", "k"])
    with pytest.raises(errors.InputError, match="heads= goes with"):
        llama.activation_patching(IDS, OTHER, "mlp", heads=[1])
