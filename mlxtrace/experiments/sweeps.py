"""Runs as experiments ask for them: a sweep on the engine that is right for the model, and notes on its cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..engine import choice
from ..engine.sweep import Cell, Measure, Outcome, Patch, Plan, Run, Sweep, capture
from . import caveats
from .protocol import TracedModel

__all__ = [
    "Cell",
    "Job",
    "Measure",
    "Outcome",
    "Patch",
    "Plan",
    "Run",
    "Sweep",
    "check_plans",
    "logits_of",
    "notes_of",
    "plain_logits",
    "plan_of",
    "sweep_of",
    "sweep_pairs",
]
TOGETHER = 32  # prompts of one plain pass


@dataclass(frozen=True)
class Job:
    """The sweep of one pair: the run that is patched, the run that the activations come from, and the cells."""

    base: Run
    source: Run
    cells: list[Cell]


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


def notes_of(model: TracedModel, cells: Sequence[Cell]) -> list[str]:
    """What the sites of some cells are not, a sentence each."""
    return caveats.of_cells(model.resolver, cells)


def logits_of(model: TracedModel, run: Run) -> np.ndarray:
    """Last-position logits `[rows, V]` of one plain run."""
    return np.asarray(capture(model.resolver, run, [])[0])


def plain_logits(model: TracedModel, runs: Sequence[Run]) -> list[np.ndarray]:
    """Last-position logits `[rows, V]` of some plain runs; those of one length and without noise go together."""
    found: dict[int, np.ndarray] = {}
    alike: dict[int, list[int]] = {}
    for i, run in enumerate(runs):
        if run.noise is None:
            alike.setdefault(len(run.ids), []).append(i)
        else:
            found[i] = logits_of(model, run)
    for indices in alike.values():
        for start in range(0, len(indices), TOGETHER):
            some = indices[start : start + TOGETHER]
            logits = capture(model.resolver, tuple(runs[i] for i in some), [])[0]
            found.update({i: row[None] for i, row in zip(some, logits, strict=True)})
    return [found[i] for i in range(len(runs))]


def check_plans(model: TracedModel, jobs: Sequence[Job], **options: Any) -> None:
    """InputError when the sweep of a pair does not fit the memory that is allowed."""
    for job in jobs:
        sweep_of(model, job.base, job.source, job.cells, **options).fit()


def plan_of(model: TracedModel, jobs: Sequence[Job], **options: Any) -> Plan:
    """What the sweeps of some pairs would run, together. options: as `sweep_of` takes them."""
    plans = [sweep_of(model, job.base, job.source, job.cells, **options).plan() for job in jobs]
    return _joined(plans)


def sweep_pairs(
    model: TracedModel,
    jobs: Sequence[Job],
    settle: Callable[[int, np.ndarray, np.ndarray], Any],
    progress: bool | None = None,
    **options: Any,
) -> list[tuple[Any, Outcome]]:
    """Sweep some pairs; for each what `settle(i, base logits, source logits)` measures its rows with, and the outcome.

    options: as `sweep_of` takes them.
    """
    found = []
    for i, job in enumerate(jobs):
        sweep = sweep_of(model, job.base, job.source, job.cells, **options)
        measure = settle(i, *sweep.begin())
        found.append((measure, sweep.run(measure, progress)))
    plan = found[0][1].plan if len(found) == 1 else _joined([outcome.plan for _, outcome in found])
    return [(measure, replace(outcome, plan=plan)) for measure, outcome in found]


def _joined(plans: Sequence[Plan]) -> Plan:
    """Several plans as one, run one after the other."""
    if len(plans) == 1:
        return plans[0]
    took = [plan.elapsed for plan in plans if plan.elapsed is not None]
    return replace(
        plans[0],
        cells=sum(plan.cells for plan in plans),
        null_cells=sum(plan.null_cells for plan in plans),
        rows=sum(plan.rows for plan in plans),
        passes=sum(plan.passes for plan in plans),
        bytes=max(plan.bytes for plan in plans),
        seconds=sum(plan.seconds for plan in plans),
        elapsed=sum(took) if len(took) == len(plans) else None,
        starts=sorted({start for plan in plans for start in plan.starts}),
        prefix=any(plan.prefix for plan in plans),
    )
