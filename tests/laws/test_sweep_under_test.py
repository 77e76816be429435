"""The sweep under test: its cells reach every component, and a wrong row is found and named."""

from __future__ import annotations

import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel
from mlxtrace.laws.law import DoesNotApply
from mlxtrace.laws.model_under_test import ModelUnderTest


@pytest.fixture(scope="module")
def tested():
    return ModelUnderTest(InterpretableModel(models.make("llama")))


def test_every_component_has_a_cell(tested):
    names = {name for name, _ in tested.sweep.cells}
    assert names == {*tested.components, "all heads", "mixer", "before", "window"}
    assert len(tested.sweep.cells["window", 0].patches) == sum(
        name in ("attn", "mlp") for name, _ in tested.sweep.cells
    )


def test_engines_agree_and_a_wrong_row_is_named(tested):
    rows, outcome = tested.sweep.fast
    assert rows.shape == (len(tested.sweep.cells), tested.model.vocab_size) and outcome.plan.passes >= 1
    assert tested.sweep.against_the_loop(rows, tested.limit).note == ""
    wrong = rows.copy()
    at = list(tested.sweep.cells).index(("mlp", 1))
    wrong[at] *= 1.01
    found = tested.sweep.against_the_loop(wrong, tested.limit)
    assert found.error == pytest.approx(0.01, rel=0.01) and found.note == "worst: mlp at layer 1"


def test_engines_by_name(tested):
    assert tested.sweep.chosen.name == "fanout"
    assert [tested.sweep.engine(name).prefix for name in ("fanout", "flat")] == [False, False]
    assert tested.sweep.probe is tested.sweep.probe


def test_with_less_memory_there_are_more_passes_and_the_same_numbers(tested):
    rows, whole = tested.sweep.fast
    again, split = tested.sweep.logits(tested.sweep.chosen, 0.6)
    assert split.plan.passes > whole.plan.passes
    np.testing.assert_allclose(again, rows, atol=1e-4)


def test_a_model_without_sites_has_nothing_to_compare(tested, monkeypatch):
    monkeypatch.setitem(tested.sweep.__dict__, "cells", {})
    with pytest.raises(DoesNotApply, match="no site to patch"):
        tested.sweep.against_the_loop(np.zeros((0, 1)), 1.0)
