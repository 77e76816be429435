"""The law of metrics, on a model that reports another metric, another answer or another recovery."""

from __future__ import annotations

import pytest
from faulty_models import Model, misreporting, seen

from mlxtrace import InterpretableModel
from mlxtrace.laws import metric_laws
from mlxtrace.laws.metric_formulas import FORMULAS
from mlxtrace.laws.model_under_test import ModelUnderTest


def test_all_metrics_are_measured():
    found = metric_laws.metrics(ModelUnderTest(InterpretableModel(Model())))
    assert found.error <= found.tolerance and not found.note


def test_swapped_answers_are_seen():
    def swapped(name, arguments, options):
        return arguments, {**options, "target": options["foil"], "foil": options["target"]}

    assert not seen(metric_laws.metrics, Model())
    assert seen(metric_laws.metrics, misreporting(Model(), swapped))


class Wrong(InterpretableModel):
    """One metric of several is reported half again as large."""

    metric = "logit"

    def activation_patching(self, *arguments, **options):
        result = InterpretableModel.activation_patching(self, *arguments, **options)
        if type(self).metric not in options["metric"]:
            return result
        i = options["metric"].index(type(self).metric)
        result.raw[i] *= 1.5
        result.raw[i] += type(self).metric == "rank"
        return result


@pytest.mark.parametrize("metric", FORMULAS)
def test_each_metric_is_held_to_its_formula(metric):
    assert seen(metric_laws.metrics, type("Wrong", (Wrong,), {"metric": metric})(Model()))
