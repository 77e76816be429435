"""Runs as experiments ask for them: a sweep on the engine that is right for the model, and notes on its cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..engine import choice
from ..engine.sweep import Cell, Measure, Outcome, Patch, Plan, Rows, Run, Runs, Sweep, capture, progress_bar
from . import caveats
from .protocol import TracedModel

__all__ = [
    "Cell",
    "Chunk",
    "Job",
    "Measure",
    "Outcome",
    "Patch",
    "Plan",
    "Run",
    "Sweep",
    "check_plans",
    "chunk_of",
    "continued_logits",
    "is_causal",
    "joined",
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
    """The sweep of one pair: the run that is patched, the run that the activations come from, and the cells.

    contexts: what is run behind both prompts, so that the logits of the prompt's last position and of those behind it
    are read; each is a row of its own. A plain sweep has one, of no token.
    """

    base: Run
    source: Run
    cells: list[Cell]
    contexts: tuple[tuple[int, ...], ...] = ((),)

    @property
    def read(self) -> int:
        """How many of the last positions are read."""
        return 1 + max(map(len, self.contexts))

    @property
    def until(self) -> bool:
        """Whether samples of noise are drawn in rounds (see `until`), of the run that is patched or of the other."""
        return any(hasattr(run, "within") for run in (self.base, self.source))

    @property
    def shape(self) -> tuple[int, ...]:
        """What pairs have in common whose rows can be of one batch: lengths, and numbers of samples."""
        parts = len(self.contexts) > 1  # whether it is measured in parts
        return self.base.length, self.source.length, self.base.rows, self.source.rows, self.read, parts

    def runs(self, run: Run) -> list[Run]:
        """A run with each context behind it, all of one length: what is behind a context changes nothing before it."""
        most = self.read - 1
        behind = [(*context, *context[-1:] * (most - len(context))) for context in self.contexts]
        return [replace(run, ids=(*run.ids, *tokens)) if most else run for tokens in behind]


@dataclass(frozen=True)
class Chunk:
    """Some pairs, by their numbers among the jobs, and the sweep over all of them."""

    numbers: list[int]
    sweep: Sweep
    jobs: list[Job]

    def begin(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Run base and source plainly; for each pair both runs' logits, as its measure gets them.

        Of several contexts, or of several positions, they are `[contexts, rows, positions, V]`.
        """
        n = sum(len(job.contexts) for job in self.jobs)
        base, source = (self._stacked(np.split(logits, n)) for logits in self.sweep.begin())
        return base, source

    def _stacked(self, members: list[np.ndarray]) -> list[np.ndarray]:
        found, left = [], iter(members)
        for job in self.jobs:
            own = [next(left) for _ in job.contexts]
            found.append(np.stack(own) if job.read > 1 else own[0])
        return found

    def run(self, measures: Sequence[Any], progress: Any = None) -> list[Outcome]:
        """Run every cell; for each pair what its own sweep returns, with the plan of all.

        measures: one for each pair; of several contexts it has a `part` for each, which it makes `combined`.
        """
        flat, sizes = [], []
        for job, measure in zip(self.jobs, measures, strict=True):
            n = len(job.contexts)
            flat += [measure.part(i) for i in range(n)] if n > 1 else [measure]
            sizes += [len(job.cells)] * n
        outcome = self.sweep.run(flat if len(flat) > 1 else flat[0], progress)
        ends = np.cumsum(sizes)[:-1]
        values = iter(np.split(outcome.values, ends, 1))
        base, source = (iter(np.split(x, len(flat), 1)) for x in (outcome.base, outcome.source))
        found = []
        for job, measure in zip(self.jobs, measures, strict=True):
            parts = [[next(left) for _ in job.contexts] for left in (values, base, source)]
            own, base_values, source_values = (
                measure.combined(part) if len(part) > 1 else part[0] for part in parts
            )
            found.append(Outcome(own, base_values, source_values, outcome.plan))
        return found


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


def is_causal(model: TracedModel) -> bool:
    """Whether no position of a model sees a later one."""
    return choice.trial_sweep(model.resolver).causal


def notes_of(model: TracedModel, cells: Sequence[Cell], estimated: bool = False) -> list[str]:
    """What the sites of some cells are not, a sentence each. estimated: nothing was patched there."""
    return caveats.of_cells(model.resolver, cells, estimated)


def logits_of(model: TracedModel, run: Run) -> np.ndarray:
    """Last-position logits `[rows, V]` of one plain run."""
    return np.asarray(capture(model.resolver, run, [])[0])


def continued_logits(
    model: TracedModel, run: Run, contexts: tuple[tuple[int, ...], ...] = ((),)
) -> np.ndarray:
    """Logits of one plain run as a sweep of some contexts gives them, `[rows, V]` of one of no token."""
    job = Job(run, run, [], contexts)
    parts = plain_logits(model, job.runs(run), job.read)
    return np.stack(parts) if job.read > 1 else parts[0]


def plain_logits(model: TracedModel, runs: Sequence[Run], read: int = 1) -> list[np.ndarray]:
    """Last-position logits `[rows, V]` of some plain runs; those of one length and without noise go together.

    read: of how many of the last positions; of more than one `[rows, read, V]`.
    """
    found: dict[int, np.ndarray] = {}
    alike: dict[int, list[int]] = {}
    for i, run in enumerate(runs):
        if run.noise is None:
            alike.setdefault(len(run.ids), []).append(i)
        else:
            found[i] = np.asarray(capture(model.resolver, run, [], read=read)[0])
    for indices in alike.values():
        for start in range(0, len(indices), TOGETHER):
            some = indices[start : start + TOGETHER]
            logits = capture(model.resolver, tuple(runs[i] for i in some), [], read=read)[0]
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
        chunk = chunk_of(model, jobs, numbers, engine=engine, max_memory=max_memory, **options)
        if len(numbers) == 1 or chunk.sweep.at_once:
            return [chunk]
        half = len(numbers) // 2
        return [*fitting(numbers[:half]), *fitting(numbers[half:])]

    chunks = []
    for numbers in alike.values():
        for some in np.array_split(numbers, -(-len(numbers) // MOST_PAIRS)):
            chunks += fitting(some.tolist())
    return chunks


def chunk_of(
    model: TracedModel,
    jobs: Sequence[Job],
    numbers: list[int],
    fixed: Run | None = None,
    **options: Any,
) -> Chunk:
    """One sweep over some pairs of one shape. fixed: the run of fixed patches, of a pair by itself."""
    chosen = [jobs[i] for i in numbers]
    members = [
        (job, base, source)
        for job in chosen
        for base, source in zip(job.runs(job.base), job.runs(job.source), strict=True)
    ]
    if fixed is not None:
        options["fixed"] = _joined_runs(chosen[0].runs(fixed))
    base = _joined_runs([patched for _, patched, _ in members])
    source = _joined_runs([giving for *_, giving in members])
    cells = [replace(cell, prompt=k) for k, (job, *_) in enumerate(members) for cell in job.cells]
    if chosen[0].read > 1:
        options["read"] = chosen[0].read
    return Chunk(numbers, sweep_of(model, base, source, cells, **options), chosen)


def _joined_runs(runs: list[Run]) -> Rows:
    return runs[0] if len(runs) == 1 else Runs(tuple(runs))


def check_plans(model: TracedModel, jobs: Sequence[Job], **options: Any) -> None:
    """InputError when the sweep of a pair does not fit the memory that is allowed."""
    for chunk in chunks_of(model, jobs, **options):
        chunk.sweep.fit()


def plan_of(model: TracedModel, jobs: Sequence[Job], **options: Any) -> Plan:
    """What the sweeps of some pairs would run, together. options: as `chunks_of` takes them."""
    return joined([chunk.sweep.plan() for chunk in chunks_of(model, jobs, **options)])


def sweep_pairs(
    model: TracedModel,
    jobs: Sequence[Job],
    settle: Callable[[int, np.ndarray, np.ndarray], Any],
    progress: bool | None = None,
    before: Callable[[Plan], Any] | None = None,
    **options: Any,
) -> list[tuple[Any, Outcome]]:
    """Sweep some pairs; for each what `settle(i, base logits, source logits)` measures its rows with, and the outcome.

    before: is told the plan before anything is run. options: as `chunks_of` takes them.
    """
    chunks, found = chunks_of(model, jobs, **options), {}
    for chunk in chunks:
        chunk.sweep.fit()  # all are refused before any is run
    if before is not None:
        before(joined([chunk.sweep.plan() for chunk in chunks]))
    plans = []
    with progress_bar(sum(len(job.cells) * len(job.contexts) for job in jobs), progress) as bar:
        for chunk in chunks:
            logits = zip(chunk.numbers, *chunk.begin(), strict=True)
            measures = {i: settle(i, base, source) for i, base, source in logits}
            outcomes = chunk.run(list(measures.values()), bar)
            plans.append(outcomes[0].plan)
            found.update({i: (m, o) for (i, m), o in zip(measures.items(), outcomes, strict=True)})
    plan = joined(plans)
    return [(found[i][0], replace(found[i][1], plan=plan)) for i in range(len(jobs))]


def joined(plans: Sequence[Plan]) -> Plan:
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
        once=max(plan.once for plan in plans),
        starts=sorted({start for plan in plans for start in plan.starts}),
        prefix=any(plan.prefix for plan in plans),
    )
