"""What must hold of a trace on any model: untouched it changes nothing, and an edit does exactly what it says."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import mlx.core as mx
import models
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models.base import create_attention_mask

from mlxtrace import InterpretableModel
from mlxtrace.anatomy.recording import forward

IDS = [3, 17, 5, 90, 41, 8, 77]
OTHER = [3, 17, 66, 12, 41, 8, 20]
# Layers whose output is not all that later layers read: keys, values or inputs travel beside it.
BESIDE = {"gemma4_text": "per-layer inputs and keys shared between layers travel beside the residual stream"}
QUANTIZED = ["llama", "gpt2", "gemma2", "mixtral", "jamba", "mamba"]
CASES = [*models.SAMPLED, *(f"{name}-4bit" for name in QUANTIZED)]

SHARED = Path(__file__).parents[3] / "shared" / "data" / "architectures.json"
ARCHITECTURES = json.loads(SHARED.read_text()) if SHARED.is_file() else {}


@pytest.fixture(scope="module", params=CASES)
def model(request) -> InterpretableModel:
    name, _, bits = request.param.partition("-")
    return InterpretableModel(models.make(name, quantize=4 if bits else None))


def plain(model: InterpretableModel, ids: list[int]) -> mx.array:
    logits = forward(model.net, mx.array([ids]))
    mx.eval(logits)
    return logits


def state(net) -> tuple[list, dict]:
    return [type(m) for _, m in net.named_modules()], dict(tree_flatten(net.parameters()))


def same(a: mx.array, b: mx.array) -> bool:
    return a.dtype == b.dtype and mx.array_equal(a, b).item()


def test_an_untouched_trace_is_bit_identical_and_leaves_no_mark(model):
    classes, weights = state(model.net)
    weights = {k: mx.array(v) for k, v in weights.items()}
    expected = plain(model, IDS)
    with model.trace(IDS) as trace:
        pass
    assert same(trace.output, expected)
    after, now = state(model.net)
    assert after == classes
    assert now.keys() == weights.keys()
    assert all(same(now[k], weights[k]) for k in weights)


def test_every_site_replaced_by_itself_changes_nothing(model):
    with model.trace(IDS) as trace:
        pass
    for name in model.resolver.sites():
        kept = trace.activations[name]
        with model.trace(IDS, interventions={name: lambda x, v=kept: v}, cache=False) as declared:
            pass
        assert same(declared.output, trace.output), name
    with model.trace(IDS) as body:
        for name in sorted(model.resolver.sites(), key=_running_order(model)):
            site = model.resolver.resolve(name)
            body.write(site, trace.activations[name])
    assert same(body.output, trace.output)


def _running_order(model):
    """Sites in the order in which a pass reaches them."""
    with model.trace(IDS) as trace:
        pass
    order = list(trace._pass.order)
    return lambda name: order.index(model.resolver.resolve(name).port)


def test_the_whole_stream_of_another_prompt_gives_its_logits(model):
    expected = plain(model, OTHER)
    with model.trace(OTHER) as other:
        pass
    name = type(model.net).__module__.rsplit(".", 1)[-1]
    for layer in range(model.n_layers):
        source = other.activations[f"layers.{layer}.resid_post"]
        key = f"layers.{layer}.resid_post"
        with model.trace(IDS, interventions={key: lambda x, v=source: v}, cache=False) as patched:
            pass
        if name in BESIDE and layer < model.n_layers - 1:
            continue
        assert same(patched.output, expected), key


def test_the_middle_of_the_stream_adds_up(model):
    name = type(model.net).__module__.rsplit(".", 1)[-1]
    with model.trace(IDS) as trace:
        pass
    acts, found = trace.activations, 0
    for layer in range(model.n_layers):
        at = f"layers.{layer}"
        if f"{at}.resid_mid" not in model.resolver.table:
            continue
        found += 1
        pre, mid, post = (acts[f"{at}.{c}"] for c in ("resid_pre", "resid_mid", "resid_post"))
        assert not same(mid, pre) and not same(mid, post)
        if name in models.PLAIN:
            assert mx.allclose(mid, pre + acts[f"{at}.attn"], atol=1e-6), at
            assert mx.allclose(post, mid + acts[f"{at}.mlp"], atol=1e-5, rtol=1e-5), at
    assert found == model.n_layers or name not in models.PLAIN


def test_the_middle_of_another_prompt_gives_its_logits(model):
    expected = plain(model, OTHER)
    with model.trace(OTHER) as other:
        pass
    for name in model.resolver.table:
        if name.endswith("resid_mid"):
            with model.trace(IDS, interventions={name: lambda x, v=other.activations[name]: v}) as patched:
                pass
            assert mx.allclose(patched.output, expected, atol=2e-4), name


def test_captured_arrays_do_not_change_later(model):
    """Models write `h += x` into the array that a tap has seen."""
    with model.trace(IDS) as once:
        values = [
            (name, model_read(once, model, name))
            for name in sorted(model.resolver.sites(), key=_running_order(model))
        ]
        copies = [(name, mx.array(x), x) for name, x in values]
    for name, copy, x in copies:
        assert same(copy, mx.array(x)), name
        assert same(copy, once.activations[name]), name


def model_read(trace, model, name):
    x = trace.read(model.resolver.resolve(name))
    mx.eval(x)
    return x


# ---- an independent loop: the model's own layers one by one, and nothing of mlxtrace


def loop_llama(net, ids, edits):
    h = net.model.embed_tokens(mx.array([ids]))
    mask = create_attention_mask(h, None)
    for i, layer in enumerate(net.model.layers):
        h = edits.get(("resid_pre", i), _same)(h)
        a = edits.get(("attn", i), _same)(layer.self_attn(layer.input_layernorm(h), mask, None))
        h = edits.get(("resid_mid", i), _same)(h + a)
        m = edits.get(("mlp", i), _same)(layer.mlp(layer.post_attention_layernorm(h)))
        h = edits.get(("resid_post", i), _same)(h + m)
    return net.lm_head(net.model.norm(h))


def loop_gpt2(net, ids, edits):
    h = net.model.wte(mx.array([ids])) + net.model.wpe(mx.arange(len(ids))[None])
    mask = create_attention_mask(h, None)
    for i, layer in enumerate(net.model.h):
        h = edits.get(("resid_pre", i), _same)(h)
        a = edits.get(("attn", i), _same)(layer.attn(layer.ln_1(h), mask, None))
        h = edits.get(("resid_mid", i), _same)(h + a)
        m = edits.get(("mlp", i), _same)(layer.mlp(layer.ln_2(h)))
        h = edits.get(("resid_post", i), _same)(h + m)
    return net.model.wte.as_linear(net.model.ln_f(h))


def _same(x):
    return x


LOOPS = {"llama": loop_llama, "gpt2": loop_gpt2}
EDITS = {
    "zero a position": lambda x: mx.concatenate([x[:, :2], mx.zeros_like(x[:, 2:3]), x[:, 3:]], axis=1),
    "scale unevenly": lambda x: x * mx.linspace(0.5, 1.5, x.shape[-1]),
    "swap two positions": lambda x: x[:, mx.array([0, 4, 2, 3, 1, 5, 6])],
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("component", ["resid_pre", "attn", "resid_mid", "mlp", "resid_post"])
@pytest.mark.parametrize("name", LOOPS)
def test_an_edit_equals_the_loop_written_by_hand(name, component, edit):
    net, fn = models.make(name), EDITS[edit]
    model, loop = InterpretableModel(net), LOOPS[name]
    assert mx.allclose(loop(net, IDS, {}), plain(model, IDS), atol=1e-6)
    for layer in range(model.n_layers):
        expected = loop(net, IDS, {(component, layer): fn})
        assert mx.abs(expected - plain(model, IDS)).max() > 1e-3
        key = f"layers.{layer}.{component}"
        with model.trace(IDS, interventions={key: fn}) as declared:
            pass
        with model.trace(IDS, cache=False) as body:
            site = getattr(model.layers[layer], component)
            site.output = fn(site.output)
        assert mx.allclose(declared.output, expected, atol=2e-5), key
        assert mx.allclose(body.output, expected, atol=2e-5), key


@pytest.mark.parametrize("name", LOOPS)
def test_edits_in_place_equal_the_loop(name):
    net = models.make(name)
    model = InterpretableModel(net)

    def at_position(x):
        x = mx.array(x)
        x[:, 4] = x[:, 1] * 2
        x[0, -1, :5] += 1.0
        return x

    expected = LOOPS[name](net, IDS, {("mlp", 1): at_position, ("resid_post", 2): lambda x: x - 3.0})
    with model.trace(IDS) as trace:
        x = model.layers[1].mlp.output
        x[:, 4] = x[:, 1] * 2
        x[0, -1, :5] += 1.0
        y = model.layers[2].output
        y -= 3.0
    assert mx.allclose(trace.output, expected, atol=2e-5)


# ---- every architecture of the shared file


def _heavy(name: str):
    return pytest.param(name, marks=[] if name in SAMPLE else [pytest.mark.heavy])


SAMPLE = sorted(ARCHITECTURES)[::4]  # the others are marked heavy


@pytest.mark.skipif(not ARCHITECTURES, reason="../shared/data/architectures.json is not there")
@pytest.mark.parametrize("name", [_heavy(n) for n in ARCHITECTURES] or [""])
def test_shared_architectures(name):
    entry = ARCHITECTURES[name]
    path = "mlx_lm.models." + entry["module"]
    if importlib.util.find_spec(path) is None:
        pytest.skip("not in this mlx-lm")
    module = importlib.import_module(path)
    mx.random.seed(0)
    net = module.Model(module.ModelArgs.from_dict(entry["args"]))
    mx.eval(net.parameters())
    model = InterpretableModel(net)
    ids = [(5 * i + 2) % entry["vocab"] for i in range(8)]
    expected = plain(model, ids)
    with model.trace(ids) as trace:
        pass
    assert same(trace.output, expected)
    picks = model.resolver.sites()
    for site in picks[:: max(1, len(picks) // 9)]:
        with model.trace(
            ids, interventions={site: lambda x, v=trace.activations[site]: v}, cache=False
        ) as again:
            pass
        assert same(again.output, expected), site
