"""Runs as experiments ask for them: a sweep on the engine that is right for the model, and notes on its cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine import choice
from ..engine.sweep import Cell, Outcome, Patch, Plan, Run, Sweep, capture
from . import caveats
from .protocol import TracedModel

__all__ = ["Cell", "Outcome", "Patch", "Plan", "Run", "Sweep", "logits_of", "notes_of", "sweep_of"]


def sweep_of(
    model: TracedModel,
    base: Run,
    source: Run,
    cells: Sequence[Cell],
    engine: Any = "auto",
    max_memory: int | None = None,
    **options: Any,
) -> Sweep:
    """The sweep that patches the base run with activations of the source run. options: further ones of `Sweep`."""
    chosen = choice.choose(model.resolver, engine)
    return Sweep(model.resolver, base, source, cells, chosen, max_memory, **options)


def notes_of(sweep: Sweep) -> list[str]:
    """What the sites of a sweep's cells are not, a sentence each."""
    return caveats.of_cells(sweep.resolver, sweep.request.cells)


def logits_of(model: TracedModel, run: Run) -> np.ndarray:
    """Last-position logits `[rows, V]` of one plain run."""
    return np.asarray(capture(model.resolver, run, [])[0])
