"""The law of compiled programs: it holds, and sees an experiment that is off by one."""

from __future__ import annotations

import numpy as np

import mlxtrace
from mlxtrace.laws import compiled_laws


def measured_on(model_class):
    tested = type("Tested", (), {"model": model_class.__new__(model_class)})()
    return compiled_laws.programs(tested)


def test_it_holds_and_says_how_many_cells():
    found = measured_on(mlxtrace.InterpretableModel)
    assert (found.error, found.tolerance) == (0.0, 0.0) and int(found.note.split()[0]) > 1000


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
