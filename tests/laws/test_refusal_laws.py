"""The law of refusals: each check that is taken away is counted."""

from __future__ import annotations

import contextlib

import pytest
from faulty_models import Model, misreporting

from mlxtrace import InterpretableModel, errors
from mlxtrace.laws import refusal_laws
from mlxtrace.laws.model_under_test import ModelUnderTest


def test_all_bad_input_of_a_sound_model_raises():
    found = refusal_laws.refusals(ModelUnderTest(InterpretableModel(Model())))
    assert found.error == 0 and found.note == "16 tried"


class Lenient(InterpretableModel):
    """Whatever raises gives nothing instead."""

    def activation_patching(self, *arguments, **options):
        try:
            return InterpretableModel.activation_patching(self, *arguments, **options)
        except errors.InputError:
            return None


def test_what_is_let_through_is_named():
    found = refusal_laws.refusals(ModelUnderTest(Lenient(Model())))
    assert found.error > 3 and "an unknown component" in found.note and "an unknown site" not in found.note


def test_another_error_than_the_packages_own_is_no_refusal():
    def broken(name, arguments, options):
        if options.get("window") == 0:
            raise ZeroDivisionError
        return arguments, options

    with pytest.raises(ZeroDivisionError):
        refusal_laws.refusals(ModelUnderTest(misreporting(Model(), broken)))


def test_base_rows_that_nobody_watches(monkeypatch):
    tested = ModelUnderTest(InterpretableModel(Model()))
    assert refusal_laws._base_rows_are_watched(tested, "mlp")
    monkeypatch.setattr(refusal_laws, "watched", lambda *_: contextlib.nullcontext())
    assert not refusal_laws._base_rows_are_watched(
        tested, "mlp"
    )  # the fault was not there, so nothing raised
