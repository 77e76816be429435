"""The laws of patching between models: they hold, and what mixes the two models up breaks them."""

from __future__ import annotations

import mlx.core as mx
import pytest
from models import make

from mlxtrace import InterpretableModel, check
from mlxtrace.engine import fit, plan, sweep
from mlxtrace.experiments import activation_patching
from mlxtrace.laws.law import DoesNotApply
from mlxtrace.laws.model_under_test import ModelUnderTest
from mlxtrace.laws.source_model_laws import between, itself, twin_of

HEAVY = ("mamba", "mixtral", "gemma3_text", "gemma4_text", "nanbeige", "qwen3_next", "olmo2", "jamba", "phi")


@pytest.mark.parametrize("name", ["llama", *(pytest.param(name, marks=pytest.mark.heavy) for name in HEAVY)])
@pytest.mark.parametrize("law", [between, itself])
def test_they_hold(name, law):
    found = law(ModelUnderTest(InterpretableModel(make(name))))
    assert found.error <= found.tolerance


def broken(law):
    [row] = check.run(InterpretableModel(make("gpt2")), [law])
    return row.status == "fail"


def test_the_source_run_in_the_patched_model_breaks_them(monkeypatch):
    asked = sweep.Sweep.__init__
    monkeypatch.setattr(sweep.Sweep, "__init__", lambda *a, source_resolver=None, **k: asked(*a, **k))
    assert broken(between)


def test_null_cells_of_one_model_break_them(monkeypatch):
    differences = plan.Request.first_differences.func

    class Alone(plan.Request):
        @property
        def first_differences(self):
            return differences(plan.replace(self, other=None))

    monkeypatch.setattr(sweep, "Request", Alone)
    assert broken(between)


def test_the_sites_of_another_layer_break_them(monkeypatch):
    monkeypatch.setattr(fit, "site_in", lambda model, site: model.site(site.component or "norm", 0))
    assert broken(between)


def test_a_model_that_is_not_known_for_itself_breaks_them(monkeypatch):
    said = activation_patching.between
    other = InterpretableModel(twin_of(make("gpt2"), 1.25))
    monkeypatch.setattr(activation_patching, "between", lambda model, _, *rest: said(model, other, *rest))
    assert broken(itself)


def test_a_twin_shares_its_arrays_and_another_one_all_but_vectors():
    net = make("llama")
    twin, other = twin_of(net), twin_of(net, 1.25)
    assert twin is not net and twin.layers[0] is not net.layers[0]
    assert twin.layers[0].mlp.up_proj.weight is net.layers[0].mlp.up_proj.weight
    assert other.layers[0].mlp.up_proj.weight is net.layers[0].mlp.up_proj.weight
    norm = net.layers[0].input_layernorm.weight
    assert mx.allclose(other.layers[0].input_layernorm.weight, 1.25 * norm)
    assert not mx.array_equal(norm, other.layers[0].input_layernorm.weight)


def test_a_model_without_vectors_has_no_other_one():
    net = make("gpt2")
    for module in net.modules():
        for name in [name for name, x in module.items() if isinstance(x, mx.array) and x.ndim == 1]:
            del module[name]
    with pytest.raises(DoesNotApply, match="no vectors"):
        twin_of(net, 1.25)
