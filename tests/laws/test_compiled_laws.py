"""The laws of compiled programs: they hold, and see experiments that are off by one."""

from __future__ import annotations

import numpy as np
import pytest

import mlxtrace
from mlxtrace import check
from mlxtrace.laws import compiled_laws
from mlxtrace.laws.registry import EXPERIMENT_LAWS, MODEL_LAWS


def measured_on(model_class, law=compiled_laws.cells):
    return law(type("Tested", (), {"model": model_class.__new__(model_class)})())


def test_they_hold_and_say_on_what():
    found = measured_on(mlxtrace.InterpretableModel)
    assert (found.error, found.tolerance) == (0.0, 0.0) and int(found.note.split()[0]) > 5000
    found = measured_on(mlxtrace.InterpretableModel, compiled_laws.edges)
    assert (found.error, found.tolerance, found.note) == (0.0, 0.0, "589 edges")


def test_a_wrong_position_is_seen(monkeypatch):
    monkeypatch.setattr(compiled_laws, "TRIALS", compiled_laws.TRIALS[2:3])

    class Shifted(mlxtrace.InterpretableModel):
        def activation_patching(self, *args, **options):
            found = super().activation_patching(*args, **options)
            found.raw = np.roll(found.raw, 1, axis=1)
            return found

    assert measured_on(Shifted).error >= 8.0


def test_a_result_of_another_shape_is_no_agreement(monkeypatch):
    monkeypatch.setattr(compiled_laws, "TRIALS", compiled_laws.TRIALS[3:])

    class Whole(mlxtrace.InterpretableModel):
        def activation_patching(self, *args, **options):
            return super().activation_patching(*args, **{**options, "positions": None})

    assert measured_on(Whole).error == float("inf")


def test_an_edge_of_another_sender_is_seen(monkeypatch):
    monkeypatch.setattr(compiled_laws, "EDGES", compiled_laws.EDGES[1:])

    class Shifted(mlxtrace.InterpretableModel):
        def edges(self, *args, **options):
            found = super().edges(*args, **options)
            found.senders = found.senders[::-1]
            return found

    assert measured_on(Shifted, compiled_laws.edges).error >= 2.0


@pytest.mark.parametrize("name", ["compiled", "compiled-induction"])
def test_the_other_laws_hold_on_the_programs(name):
    rows = check.run(mlxtrace.InterpretableModel(name), [*MODEL_LAWS, *EXPERIMENT_LAWS[:2]])
    assert {row.status for row in rows} <= {"pass", "n/a"}, [row for row in rows if row.status == "fail"]
