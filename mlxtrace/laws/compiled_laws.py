"""The law of compiled programs: what experiments say of them is what their rules say, number for number."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np

from .. import compiled
from .law import Measurement, law
from .model_under_test import ModelUnderTest

# The program, the number of its pair, the direction and the components that are patched cell by cell.
TRIALS = (
    (compiled.lookup, 2, "denoise", ("resid_pre", "resid_mid", "mlp")),
    (compiled.lookup, 9, "noise", ("q", "k", "pattern", "head")),
    (compiled.induction, 0, "denoise", ("attn", "resid_post", "v", "k")),
    (compiled.induction, 2, "noise", ("q", "pattern", "resid_mid", "mlp")),
)


@law("a compiled program's cells have the values that its rules say", "this installation of the package")
def programs(tested: ModelUnderTest) -> Measurement:
    """Logit differences of all cells of some components on programs with known answers: the same to the last bit."""
    return _measured(type(tested.model))


@functools.cache  # the same whatever model is checked, so measured once
def _measured(model_class: Any) -> Measurement:
    errors, cells = [0.0], 0
    for make, number, direction, components in TRIALS:
        program = make()
        model, pair = model_class(program), program.pairs[number]
        for component in components:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = model.activation_patching(
                    pair,
                    component=component,
                    positions="each",
                    metric="logit_diff",
                    direction=direction,
                    progress=False,
                )
            told = program.interpreter.cells(
                pair.clean, pair.corrupted, component, (pair.target, pair.foil), direction
            )
            same = found.raw.shape == told.shape
            errors.append(float(np.abs(found.raw - told).max()) if same else float("inf"))
            cells += told.size
    return Measurement(max(errors), 0.0, f"{cells} cells")
