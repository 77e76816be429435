"""The laws of attention and heads, with one activation, or one layer's weighing, another than it should be."""

from __future__ import annotations

import models
import pytest
from faulty_models import Model, show_scaled

from mlxtrace import InterpretableModel, check
from mlxtrace.laws import attention_laws
from mlxtrace.laws.law import DoesNotApply
from mlxtrace.laws.model_under_test import ModelUnderTest


def test_one_layer_whose_values_are_others_is_enough(monkeypatch):
    """The law takes the worst layer, not the worst of those that agree."""
    calls, honest = [], attention_laws.weighted

    def once(weights, v):
        calls.append(1)
        return honest(weights, v) * (2 if len(calls) == 2 else 1)

    monkeypatch.setattr(attention_laws, "weighted", once)
    (row,) = check.run(models.make("llama"), [attention_laws.pattern_weighs_values])
    assert row.status == "fail" and row.error > 0.5 and len(calls) == 3


@pytest.mark.parametrize(
    ("law", "component"),
    [
        (attention_laws.projected, "head"),
        (attention_laws.pattern_weighs_values, "v"),
        (attention_laws.pattern_weighs_values, "pattern"),
        (attention_laws.one_head_alone, "head"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_an_activation_that_is_another(law, component):
    tested = ModelUnderTest(InterpretableModel(Model()))
    assert law(tested).error <= law(tested).tolerance
    show_scaled(tested, f"layers.1.{component}", 1.01)
    assert law(tested).error > max(1e-3, law(tested).tolerance)


def test_patterns_that_do_not_sum_to_1(monkeypatch):
    honest = attention_laws.pattern
    tested = ModelUnderTest(InterpretableModel(Model()))
    assert attention_laws.patterns(tested).error <= tested.limit
    monkeypatch.setattr(attention_laws, "pattern", lambda *a, **k: 1.01 * honest(*a, **k))
    assert attention_laws.patterns(tested).error == pytest.approx(0.01, rel=0.01)


def test_all_heads_are_not_the_mixer_when_one_is_left_out():
    tested = ModelUnderTest(InterpretableModel(Model()))
    assert attention_laws.all_heads(tested).error <= tested.limit
    loop = tested.sweep.loop
    loop["all heads", 1] = loop["head", 1]
    assert attention_laws.all_heads(tested).error > 1e-3


def test_a_model_without_attention_has_no_patterns():
    tested = ModelUnderTest(InterpretableModel(models.make("mamba")))
    with pytest.raises(DoesNotApply, match="makes no call"):
        attention_laws.patterns(tested)
