"""The laws of directions: they hold, and a direction or an edit that is another one breaks them."""

import more_models
import numpy as np
import pytest
from models import make

from mlxtrace import InterpretableModel
from mlxtrace.laws import direction_laws
from mlxtrace.laws.direction_laws import by_hand, moves
from mlxtrace.laws.model_under_test import ModelUnderTest


def measured(law, kind=InterpretableModel, name="llama"):
    return law(ModelUnderTest(kind(make(name))))


@pytest.mark.parametrize("law", [by_hand, moves])
# mamba, heavy here, is quick in identities/test_architectures.py: the same laws on the same model
@pytest.mark.parametrize("name", ["gpt2", pytest.param("mamba", marks=pytest.mark.heavy)])
def test_they_hold(law, name):
    found = measured(law, name=name)
    assert found.error <= found.tolerance


def test_what_several_modules_write_together_is_left_out():
    """A pass by hand sees one call."""
    tested = ModelUnderTest(InterpretableModel(more_models.make("granitemoehybrid")))
    assert ("mlp", 2) not in direction_laws._sites(tested)
    assert all(law(tested).error <= law(tested).tolerance for law in (by_hand, moves))


class Turned(InterpretableModel):
    """Its lists are mixed up."""

    def direction(self, positive, negative, site, **options):
        return InterpretableModel.direction(self, negative, positive, site, **options)


class Elsewhere(InterpretableModel):
    """Its positions are the first one."""

    def direction(self, positive, negative, site, **options):
        return InterpretableModel.direction(self, positive, negative, site, positions=0)


class Unit(InterpretableModel):
    """Its directions have length 1."""

    def direction(self, *arguments, **options):
        return InterpretableModel.direction(self, *arguments, **options).unit


@pytest.mark.parametrize("law", [by_hand, moves])
@pytest.mark.parametrize("kind", [Turned, Elsewhere, Unit])
def test_another_direction_breaks_them(law, kind):
    found = measured(law, kind)
    assert found.error > found.tolerance


def test_an_edit_at_every_token_breaks_the_second(monkeypatch):
    monkeypatch.setattr(
        direction_laws, "add_vector", lambda v, positions, add=direction_laws.add_vector: add(v)
    )
    found = measured(moves)
    assert not np.isfinite(found.error) or found.error > found.tolerance
