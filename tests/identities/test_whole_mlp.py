"""The MLP is the whole MLP: however many modules write it, under whatever names, or it is refused with the reason."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import models
import more_models
import numpy as np
import pytest

from mlxtrace import InterpretableModel, errors
from mlxtrace import interventions as iv
from mlxtrace.forward.cache import ActivationCache
from mlxtrace.laws.law import DoesNotApply
from mlxtrace.laws.model_under_test import ModelUnderTest
from mlxtrace.laws.stream_laws import accounted

CLEAN, CORRUPTED = [3, 17, 5, 90, 41, 8], [3, 17, 60, 11, 41, 8]
WIDTH = 64


class Half(nn.Module):
    """A small MLP."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 40), nn.Linear(40, WIDTH)

    def __call__(self, x):
        return self.down(nn.relu(self.up(x)))


class Layer(nn.Module):
    """A llama's layer with further modules beside its MLP; `add` says how they write."""

    def __init__(self, old: nn.Module):
        super().__init__()
        self.self_attn, self.mlp = old.self_attn, old.mlp
        self.input_layernorm = old.input_layernorm
        self.post_attention_layernorm = old.post_attention_layernorm
        self.side, self.third, self.last = Half(), Half(), nn.RMSNorm(WIDTH)
        self.own = mx.random.normal((WIDTH, WIDTH)) / 8
        self.use_sliding = False

    def __call__(self, x, mask=None, cache=None):
        x = x + self.self_attn(self.input_layernorm(x), mask, cache)
        return self.add(x, self.post_attention_layernorm(x))


class Two(Layer):
    def add(self, x, y):
        return x + self.mlp(y) + self.side(y)


class Three(Layer):
    def add(self, x, y):
        return x + 0.5 * (self.third(y) + self.mlp(y) + self.side(y))


class Through(Layer):
    def add(self, x, y):
        return x + self.last(self.mlp(y) + self.side(y))


class Unequal(Layer):
    def add(self, x, y):
        return x + self.mlp(y) + 0.5 * self.side(y)


class Then(Layer):
    def add(self, x, y):
        x = x + self.mlp(y)
        return x + self.side(x)


class Bare(Layer):
    def add(self, x, y):
        return x + self.mlp(y) + nn.relu(y @ self.own)


def built(kind: type[Layer]) -> InterpretableModel:
    net = models.make("llama")
    mx.random.seed(5)
    net.model.layers = [kind(layer) for layer in net.model.layers]
    mx.eval(net.parameters())
    return InterpretableModel(net)


EXPERTS = {  # beside gemma4's dense MLP
    "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "enable_moe_block": True, "num_experts": 4,
    "top_k_experts": 2, "moe_intermediate_size": 32,
}  # fmt: skip


@pytest.fixture(scope="module")
def several() -> dict[str, InterpretableModel]:
    made = {kind.__name__: built(kind) for kind in (Two, Three, Through)}
    made["granitemoehybrid"] = InterpretableModel(more_models.make("granitemoehybrid"))
    made["gemma4_text"] = InterpretableModel(models.make("gemma4_text", **EXPERTS))
    return made


SEVERAL = {
    "Two": ["mlp", "side"],
    "Three": ["third", "mlp", "side"],
    "Through": ["mlp", "side"],
    "granitemoehybrid": ["block_sparse_moe", "shared_mlp"],
    "gemma4_text": ["mlp", "experts"],
}


def by_hand(model: InterpretableModel, layer: int, edit) -> float:
    """A logit of the corrupted run with the modules of one MLP edited, each by its own path."""
    info = model.resolver.layer(layer)
    edits = {f"{path}@0": edit(path) for path in info.mlps}
    with model.trace(CORRUPTED, interventions=edits) as trace:
        pass
    return trace.output[0, -1, 7].item()


def seventh(logits):
    return logits[:, 7]


@pytest.mark.parametrize("name", SEVERAL)
def test_every_module_of_the_mlp_is_patched_in_every_engine(several, name):
    model = several[name]
    assert [p.split(".")[-1] for p in model.resolver.layer(1).mlps] == SEVERAL[name]
    with model.trace(CLEAN) as clean:
        pass
    right = [by_hand(model, i, lambda path: lambda _: clean.activations[path]) for i in range(model.n_layers)]
    for engine in ("fanout", "flat", "loop"):
        found = model.activation_patching(
            CLEAN, CORRUPTED, component="mlp", metric=seventh, engine=engine, progress=False
        )
        np.testing.assert_allclose(found.raw, right, atol=2e-5, err_msg=engine)
    assert any("together" in note for note in found.notes) and "together" in repr(found)
    maps = [
        model.activation_patching(
            CLEAN, CORRUPTED, component="mlp", positions="each", metric=seventh, engine=engine, progress=False
        ).raw
        for engine in ("fanout", "loop")
    ]
    np.testing.assert_allclose(*maps, atol=2e-5)


@pytest.mark.parametrize("name", SEVERAL)
def test_traces_edits_and_caches_mean_the_same_whole(several, name, tmp_path):
    model = several[name]
    with model.trace(CORRUPTED) as plain:
        seen = model.layers[1].mlp.output.save()
    info = model.resolver.layer(1)
    total = sum(plain.activations[p] for p in info.summed)
    assert mx.abs(seen - total).max().item() <= 1e-5 * mx.abs(total).max().item()
    plain.activations.save(tmp_path / "cache.safetensors")
    loaded = ActivationCache.load(tmp_path / "cache.safetensors")
    _, some = model.run_with_cache(CORRUPTED, sites=["layers.1.mlp"])
    for cache in (plain.activations, loaded, some):
        assert mx.array_equal(cache["layers.1.mlp"], seen)
    assert mx.array_equal(plain.activations["layers.1.mlp.output"], seen)
    right = by_hand(model, 1, lambda _: iv.zero_out())
    assert abs(right - plain.output[0, -1, 7].item()) > 1e-3
    for key in ("layers.1.mlp", "layers.1.mlp.output"):
        with model.trace(CORRUPTED, interventions={key: iv.zero_out()}, cache=False) as zeroed:
            pass
        assert zeroed.output[0, -1, 7].item() == pytest.approx(right, abs=2e-5)
    with model.trace(CORRUPTED, cache=False) as body:
        model.layers[1].mlp.output[...] = 0.0
    assert body.output[0, -1, 7].item() == pytest.approx(right, abs=2e-5)
    with model.trace(CORRUPTED, interventions={"layers.1.mlp": lambda x: x}) as same:
        pass
    assert mx.array_equal(same.output, plain.output)
    with pytest.raises((errors.UnsupportedError, errors.SiteAttributeError)):
        model.layers[1].mlp.down_proj  # noqa: B018


def test_the_middle_is_where_the_modules_start(several):
    for name, exists in (
        ("Two", True),
        ("Through", True),
        ("gemma4_text", True),
        ("granitemoehybrid", False),
    ):
        assert ("layers.1.resid_mid" in several[name].resolver.table) == exists, name
    with several["Two"].trace(CLEAN) as trace:
        pass
    pre, mid, mlp, post = (
        trace.activations[f"layers.1.{c}"] for c in ("resid_pre", "resid_mid", "mlp", "resid_post")
    )
    assert mx.abs(mid + mlp - post).max().item() < 1e-4 < mx.abs(mid - pre).max().item()


@pytest.mark.parametrize(("kind", "why"), [(Unequal, "not simply added up")])
def test_what_is_no_sum_is_refused(kind, why):
    model = built(kind)
    for ask in (
        lambda: model.activation_patching(CLEAN, CORRUPTED, component="mlp", metric=seventh),
        lambda: model.trace(CLEAN, interventions={"layers.1.mlp": iv.zero_out()}),
        lambda: model.layers[1].mlp,
        lambda: model.resolver.site("neuron", 1),
    ):
        with pytest.raises(errors.UnsupportedError, match=f"{why}|several"):
            ask()
    with model.trace(CLEAN, interventions={"model.layers.1.mlp": iv.zero_out()}):
        pass  # by its own path the module can be reached


@pytest.mark.parametrize(("kind", "text"), [(Then, "side"), (Bare, "no sum")])
def test_what_else_a_layer_writes_is_said(kind, text):
    model = built(kind)
    assert model.resolver.layer(1).mlps == ("model.layers.1.mlp",)
    found = model.activation_patching(CLEAN, CORRUPTED, component="mlp", metric=seventh, progress=False)
    assert any(text in note for note in found.notes) and text in model.resolver.describe()


@pytest.mark.parametrize("name", [*SEVERAL, "llama", "gemma2", "granite"])
def test_mixer_and_mlp_account_for_the_layer(several, name):
    model = several[name] if name in several else InterpretableModel(models.make(name))
    found = accounted(ModelUnderTest(model))
    assert found.error <= found.tolerance, found


def test_the_law_sees_half_an_mlp(monkeypatch):
    from mlxtrace.anatomy import contributions, layers

    monkeypatch.setattr(layers, "written", lambda *a: contributions.Written(a[3], a[4], a[4], plain=True))
    found = accounted(ModelUnderTest(built(Two)))
    assert found.error > 100 * found.tolerance and "layers" in found.note


def test_plain_models_have_nothing_said_of_them(llama):
    found = llama.activation_patching(
        CLEAN, CORRUPTED, component=["resid_pre", "attn", "mlp", "resid_post"], metric=seventh, progress=False
    )
    assert found.notes == []
    with pytest.raises(DoesNotApply):
        accounted(ModelUnderTest(InterpretableModel(more_models.make("deepseek_v41"))))


@pytest.mark.parametrize("name", ["afm7", "kimi_k3", "talkie"])
def test_a_stream_that_is_not_the_whole_state_is_said(name):
    model = InterpretableModel(more_models.make(name))
    found = model.activation_patching(CLEAN, CORRUPTED, component="resid_post", metric="kl", progress=False)
    off = [i for i, percent in enumerate(found.recovery) if abs(percent - 100) > 0.1]
    assert any("not the whole state" in note for note in found.notes) and "not the whole state" in repr(found)
    said = {i for i in range(model.n_layers) if _said_of(model, i)}
    assert set(off) <= said


def _said_of(model: InterpretableModel, layer: int) -> bool:
    from mlxtrace.experiments.caveats import cautions

    return bool(cautions(model.resolver, [("resid_post", layer)]))
