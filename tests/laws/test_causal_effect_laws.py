"""The law of causal effects, on a model that measures them over other windows, prompts or draws."""

from __future__ import annotations

import pytest
from faulty_models import Model, misreporting, seen

from mlxtrace.laws import causal_effect_laws


@pytest.mark.parametrize(
    ("experiment", "changed"),
    [
        ("causal_effects", {"window": 1}),
        ("causal_effects", {"target": 5}),
        ("noising_window", {"window": 1}),
        ("noising_window", {"seed": 8}),
        ("noising_window", {"level": 0.06}),
    ],
    ids=str,
)
def test_an_effect_of_something_else(experiment, changed):
    def change(name, arguments, options):
        return arguments, {**options, **(changed if name == experiment else {})}

    assert seen(causal_effect_laws.effects, misreporting(Model(), change))


def test_swapped_prompts():
    def change(name, arguments, options):
        if name == "causal_effects":
            arguments = (arguments[1], arguments[0], arguments[2])
        return arguments, options

    assert not seen(causal_effect_laws.effects, Model())
    assert seen(causal_effect_laws.effects, misreporting(Model(), change))
