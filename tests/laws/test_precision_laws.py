"""The laws of arithmetic: rows that change each other, and weights that are not what was packed."""

from __future__ import annotations

import mlx.core as mx
import models
import pytest
from faulty_models import DependingOnCompany, Model

from mlxtrace import InterpretableModel, check
from mlxtrace.laws import precision_laws, stream_laws
from mlxtrace.laws.law import DoesNotApply
from mlxtrace.laws.model_under_test import ModelUnderTest


@pytest.mark.parametrize("factor", [1.01, 1.0005])
def test_a_model_that_answers_otherwise_in_company_fails(factor):
    """No tolerance grows with the model's own deviation beyond the cap; laws that cannot say anything say so."""
    net = DependingOnCompany()
    net.factor = factor
    rows = {row.law: row for row in check.run(net, [precision_laws.rows_are_independent, stream_laws.stream])}
    row = rows[precision_laws.rows_are_independent.name]
    assert row.status == "fail" and row.error > 3e-4 and "half of all rows move" in row.note
    stream = rows[stream_laws.stream.name]
    if factor > 1.002:
        assert stream.status == check.NOISY and "the most that any law may allow is 0.002" in stream.note
        assert check.NOISY in check.table(list(rows.values()))
        assert "Nothing can be said of 1 law" in check.verdict(list(rows.values()))
    assert "Do not trust" in check.verdict(list(rows.values()))


def test_quantized_weights_that_are_others_when_they_are_dequantized(monkeypatch):
    tested = ModelUnderTest(InterpretableModel(models.make("llama", quantize=4)))
    assert precision_laws.quantized(tested).error <= precision_laws.quantized(tested).tolerance
    honest = precision_laws.cast

    def other(net, dtype):
        net = honest(net, dtype)
        net.lm_head.weight = net.lm_head.weight + mx.array(0.01)
        return net

    monkeypatch.setattr(precision_laws, "cast", other)
    assert precision_laws.quantized(tested).error > 10 * precision_laws.quantized(tested).tolerance


def test_a_float_model_is_not_compared_with_its_dequantized_self():
    with pytest.raises(DoesNotApply, match="not quantized"):
        precision_laws.quantized(ModelUnderTest(InterpretableModel(Model())))
