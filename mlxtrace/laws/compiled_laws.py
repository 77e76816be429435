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
    (compiled.induction, 2, "noise", ("q", "pattern", "neuron", "mlp")),
)
EDGES = ((compiled.lookup, 1, "noise"), (compiled.induction, 1, "denoise"))


@law("a compiled program's cells have the values that its rules say", "this installation of the package")
def cells(tested: ModelUnderTest) -> Measurement:
    """Logit differences of all cells of some components on programs with known answers: the same to the last bit."""
    return _cells(type(tested.model))


@law("a compiled program's edges have the effects that its rules say", "this installation of the package")
def edges(tested: ModelUnderTest) -> Measurement:
    """What every edge does to the logit difference, at all positions together: the same to the last bit."""
    return _edges(type(tested.model))


@functools.cache  # the same whatever model is checked, so measured once
def _cells(model_class: Any) -> Measurement:
    errors, count = [0.0], 0
    for make, number, direction, components in TRIALS:
        program = make()
        model, pair = model_class(program), program.pairs[number]
        for component in components:
            neurons = {"neurons": "each"} if component == "neuron" else {}
            how = {"metric": "logit_diff", "direction": direction, "progress": False, **neurons}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = model.activation_patching(pair, component=component, positions="each", **how)
            answers = pair.target, pair.foil
            told = program.interpreter.cells(pair.clean, pair.corrupted, component, answers, direction)
            same = found.raw.shape == told.shape
            errors.append(float(np.abs(found.raw - told).max()) if same else float("inf"))
            count += told.size
    return Measurement(max(errors), 0.0, f"{count} cells")


@functools.cache
def _edges(model_class: Any) -> Measurement:
    errors, count = [0.0], 0
    for make, number, direction in EDGES:
        program = make()
        pair = program.pairs[number]
        found = model_class(program).edges(pair, direction=direction, progress=False)
        told = program.interpreter.edges(pair.clean, pair.corrupted, (pair.target, pair.foil), direction)
        base = found.clean if direction == "noise" else found.corrupted
        for (sender, receiver), after in told.items():
            score = found.scores[found.senders.index(sender), found.receivers.index(receiver)]
            errors.append(float(np.abs(score - (after - base)).max()))
        count += len(told)
    error = max(errors) if not np.isnan(errors).any() else float("inf")
    return Measurement(error, 0.0, f"{count} edges")
