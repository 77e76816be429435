"""Runs as experiments ask for them: a sweep on the engine that is right for the model, and notes on its cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..engine import choice
from ..engine.joint_runs import Runs
from ..engine.sweep import Cell, Measure, Outcome, Patch, Plan, Rows, Run, Sweep, capture, progress_bar
from ..errors import InputError
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
# Pairs that share a sweep at most: more would keep more activations, and are no faster.
MOST_PAIRS = 32


@dataclass(frozen=True)
class Job:
    """The sweep of one pair: the run that is patched, the run that the activations come from, and the cells."""

    base: Run
    source: Run
    cells: list[Cell]

    @property
    def shape(self) -> tuple[int, ...]:
        """What pairs have in common whose rows can be of one batch: lengths, and numbers of samples."""
        return self.base.length, self.source.length, self.base.rows, self.source.rows


@dataclass(frozen=True)
class Chunk:
    """Some pairs, by their numbers among the jobs, and the sweep over all of them."""

    numbers: list[int]
    sweep: Sweep
    sizes: list[int]

    def begin(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Run base and source plainly; for each pair both runs' logits, as its measure gets them."""
        base, source = self.sweep.begin()
        n = len(self.numbers)
        return np.split(base, n), np.split(source, n)

    def run(self, measures: Sequence[Measure], progress: Any = None) -> list[Outcome]:
        """Run every cell; for each pair what its own sweep returns, with the plan of all."""
        outcome = self.sweep.run(measures, progress)
        n, ends = len(self.numbers), np.cumsum(self.sizes)[:-1]
        parts = (
            np.split(outcome.values, ends, 1),
            np.split(outcome.base, n, 1),
            np.split(outcome.source, n, 1),
        )
        return [Outcome(*found, outcome.plan) for found in zip(*parts, strict=True)]


def sweep_of(
    model: TracedModel,
    base: Rows,
    source: Rows,
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


def chunks_of(
    model: TracedModel,
    jobs: Sequence[Job],
    engine: Any = "auto",
    max_memory: int | None = None,
    **options: Any,
) -> list[Chunk]:
    """The sweeps of some pairs: those of one shape share their passes, in chunks whose activations fit the memory.

    A chunk of one pair is that pair's own sweep, and nothing else. options: as `sweep_of` takes them.
    """
    alike: dict[tuple[int, ...], list[int]] = {}
    for i, job in enumerate(jobs):
        alike.setdefault(job.shape, []).append(i)

    def fitting(numbers: list[int]) -> list[Chunk]:
        chunk = _chunk(model, jobs, numbers, engine=engine, max_memory=max_memory, **options)
        if len(numbers) == 1 or _fits(chunk.sweep):
            return [chunk]
        half = len(numbers) // 2
        return [*fitting(numbers[:half]), *fitting(numbers[half:])]

    chunks = []
    for numbers in alike.values():
        for some in np.array_split(numbers, -(-len(numbers) // MOST_PAIRS)):
            chunks += fitting(some.tolist())
    return chunks


def _fits(sweep: Sweep) -> bool:
    """Whether all that the cells of a sweep need can be kept at the same time."""
    try:
        return len(sweep.fit()) == 1
    except InputError:
        return False


def _chunk(model: TracedModel, jobs: Sequence[Job], numbers: list[int], **options: Any) -> Chunk:
    """One sweep over some pairs of one shape."""
    chosen = [jobs[i] for i in numbers]
    base, source, cells = chosen[0].base, chosen[0].source, chosen[0].cells
    if len(chosen) > 1:
        base, source = Runs(tuple(j.base for j in chosen)), Runs(tuple(j.source for j in chosen))
        cells = [replace(cell, prompt=k) for k, job in enumerate(chosen) for cell in job.cells]
    return Chunk(numbers, sweep_of(model, base, source, cells, **options), [len(j.cells) for j in chosen])


def check_plans(model: TracedModel, jobs: Sequence[Job], **options: Any) -> None:
    """InputError when the sweep of a pair does not fit the memory that is allowed."""
    for chunk in chunks_of(model, jobs, **options):
        chunk.sweep.fit()


def plan_of(model: TracedModel, jobs: Sequence[Job], **options: Any) -> Plan:
    """What the sweeps of some pairs would run, together. options: as `chunks_of` takes them."""
    return _joined([chunk.sweep.plan() for chunk in chunks_of(model, jobs, **options)])


def sweep_pairs(
    model: TracedModel,
    jobs: Sequence[Job],
    settle: Callable[[int, np.ndarray, np.ndarray], Any],
    progress: bool | None = None,
    **options: Any,
) -> list[tuple[Any, Outcome]]:
    """Sweep some pairs; for each what `settle(i, base logits, source logits)` measures its rows with, and the outcome.

    options: as `chunks_of` takes them.
    """
    chunks, found = chunks_of(model, jobs, **options), {}
    for chunk in chunks:
        chunk.sweep.fit()  # all are refused before any is run
    plans = []
    with progress_bar(sum(len(job.cells) for job in jobs), progress) as bar:
        for chunk in chunks:
            logits = zip(chunk.numbers, *chunk.begin(), strict=True)
            measures = {i: settle(i, base, source) for i, base, source in logits}
            outcomes = chunk.run(list(measures.values()), bar)
            plans.append(outcomes[0].plan)
            found.update({i: (m, o) for (i, m), o in zip(measures.items(), outcomes, strict=True)})
    plan = _joined(plans)
    return [(found[i][0], replace(found[i][1], plan=plan)) for i in range(len(jobs))]


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
