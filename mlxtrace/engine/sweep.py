"""A sweep: all cells of an experiment, run in as few forward passes as memory allows.

    outcome = Sweep(resolver, base, source, cells, engine).run(measure)

`plan` says which cells are run and from where on, `fit` cuts them into parts and passes that fit the memory, `batch`
says how one pass works. Here they are run, and each pass is checked: the planned taps fired, and the base rows agree
with the plain run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import make_prompt_cache

from ..anatomy.resolver import ModuleResolver
from ..anatomy.resolver import Site as Site
from ..errors import EngineError, InputError
from ..errors import memory_limit as memory_limit
from ..notebook import tqdm
from .batch import Batch
from .fit import METRIC_BYTES, fit, wanted
from .joint_runs import Runs as Runs
from .joint_runs import measured_by_prompt
from .lanes import FEWEST, cut, run_together
from .loop import run_loop
from .memory import allowed_bytes, of_first
from .plan import Engine, Part, Plan, PlannedCell, Request
from .runs import Cell, Rows, capture, capture_sites, last_logits
from .runs import Patch as Patch
from .runs import Run as Run
from .work import calibration, seconds

# Of the memory that is allowed, the part that the metrics' copies of logits may take: one in so many.
METRIC_SHARE = 8

Measure = Callable[[np.ndarray], np.ndarray]


@dataclass
class Outcome:
    """What a sweep returns: `values[metric, cell, sample]`, float64, and the same for the two plain runs."""

    values: np.ndarray
    base: np.ndarray
    source: np.ndarray
    plan: Plan


@dataclass
class PlainRuns:
    """What the two plain runs left: logits, the base run's caches, and the activations that one part needs.

    sources: by site name, of the source run (False) and of the fixed run (True); those of `part`, and of no other.
    took: seconds, where they were run ahead of the passes.
    """

    parts: list[Part]
    part: Part
    caches: list[Any] | None
    base_logits: np.ndarray
    source_logits: np.ndarray
    sources: dict[bool, dict[str, mx.array]]
    took: float = 0.0


class Sweep:
    """One experiment on one model: `plan` says what would run, `run` runs it.

    Args:
        resolver: of the model.
        base: the run that is patched, or those of several prompts.
        source: the run that the activations come from, or one for each prompt.
        cells: what is patched, cell by cell.
        engine: how (see `choice.choose`).
        max_memory: bytes beside the weights, captures included; None: a quarter of what is free.
        fixed: the run that fixed patches take their values from; None: the base run itself.
        every_position: `measure` gets logits `[rows, T, V]`, not the last position's `[rows, V]`.
        read: of how many of the last positions it gets the logits; of more than one `[rows, read, V]`.
        source_resolver: of the model of the same shape that the source runs in; None: the same one.
    """

    def __init__(
        self,
        resolver: ModuleResolver,
        base: Rows,
        source: Rows,
        cells: Sequence[Cell],
        engine: Engine,
        max_memory: int | None = None,
        fixed: Rows | None = None,
        every_position: bool = False,
        read: int = 1,
        source_resolver: ModuleResolver | None = None,
    ):
        allowed, fixed = allowed_bytes(max_memory, resolver.group), base if fixed is None else fixed
        self.resolver, self.base, self.source, self.fixed, self.engine = resolver, base, source, fixed, engine
        asked = (resolver, base, source, fixed, list(cells), engine, every_position, allowed, read)
        self.request = Request(*asked, None if source_resolver is resolver else source_resolver)
        self._begun: PlainRuns | None = None
        self._parts: list[Part] | None = None

    def plan(self) -> Plan:
        """What would run, without running it (but what is measured once per model is measured)."""
        return self._plan(self.fit())

    def fit(self) -> list[Part]:
        """The parts in which the cells would run; InputError when the memory that is allowed holds no cell."""
        if self._parts is None:
            self._parts = fit(self.request)
        return self._parts

    @property
    def at_once(self) -> bool:
        """Whether all that the cells need can be kept at the same time."""
        try:
            return len(self.fit()) == 1
        except InputError:
            return False

    def _plan(self, parts: list[Part]) -> Plan:
        request = self.request
        groups = [group for part in parts for group in part.groups]
        starts = [request.start_of(group, part.prefix) for part in parts for group in part.groups]
        return Plan(
            engine=self.engine.name,
            cells=len(request.cells),
            null_cells=len(request.cells) - sum(map(len, groups)),
            rows=sum(request.rows(group) for group in groups),
            passes=len(groups),
            bytes=max(part.bytes for part in parts),
            seconds=seconds(request, parts),
            prefix=any(starts),
            why=self.engine.why,
            starts=sorted(set(starts)),
            once=calibration.once(self.resolver),
        )

    def _clock(self) -> float:
        """Seconds, less those that this model was checked and timed in."""
        return time.perf_counter() - calibration.once(self.resolver)

    # ---- the plain runs

    def begin(self) -> tuple[np.ndarray, np.ndarray]:
        """Run base and source plainly and keep what the patches need; both runs' logits, as `measure` gets them."""
        began = self._clock()
        self._begun = begun = self._run_plainly(self.fit())
        begun.took = self._clock() - began
        return begun.base_logits, begun.source_logits

    def _run_plainly(self, parts: list[Part]) -> PlainRuns:
        first = parts[0]
        caches = self._new_caches() if first.prefix else None
        every, how = self.request.every_position, {"eager": first.eager, "read": self.request.last}
        other = self.request.other
        if first.together:  # one pass of two rows for each prompt
            n, runs = self.base.rows, (self.base, self.source)
            sites, keep = wanted(first, False, row=tuple(range(n, 2 * n)))
            logits, sources = capture(self.resolver, runs, sites, caches, every, keep, **how)
            base_logits, source_logits, fixed = logits[:n], logits[n:], {}
        else:
            base_logits, _ = capture(self.resolver, self.base, [], caches, every, **how)
            model, (sites, keep) = other or self.resolver, wanted(first, False, other=other)
            source_logits, sources = capture(model, self.source, sites, None, every, keep, **how)
            fixed = self._captured(self.fixed, first, True)
        for cache in caches or []:  # with the source's rows
            kept = (x[: self.base.rows, :, : self.request.length] for x in (cache.keys, cache.values))
            cache.keys, cache.values = (mx.contiguous(x) for x in kept)
            mx.eval(cache.keys, cache.values)
        return PlainRuns(parts, first, caches, base_logits, source_logits, {False: sources, True: fixed})

    def _new_caches(self) -> list[Any]:
        caches = make_prompt_cache(self.resolver.net)
        for cache in caches:
            cache.step = self.request.length  # otherwise they grow in steps of 256 tokens
        return caches

    def _captured(self, run: Rows, part: Part, fixed: bool) -> dict[str, mx.array]:
        """What a part needs of the source run or of the fixed run, in a pass of its own."""
        other = None if fixed else self.request.other
        sites, keep = wanted(part, fixed, other=other)
        return capture_sites(other or self.resolver, run, sites, keep, part.eager) if sites else {}

    def _take_sources(self, begun: PlainRuns, part: Part) -> None:
        """Have the sources of this part, and of no other, in memory."""
        if begun.part is part:
            return
        begun.sources = {}  # let go before others are captured
        begun.part = part
        source = self._captured(self.source, part, False)
        begun.sources = {False: source, True: self._captured(self.fixed, part, True)}

    # ---- the passes

    def run(self, measure: Measure | Sequence[Measure], progress: Any = None) -> Outcome:
        """Run every cell; `measure(logits [rows, V]) -> [metrics, rows]` is called pass by pass, or in smaller parts.

        measure: one for all prompts, or one for each. progress: as `progress_bar` takes it.
        The activations that the sweep needed are let go at the end.
        """
        began = self._clock()
        begun = self._begun or self._run_plainly(self.fit())
        self._begun = None  # nothing but this call keeps them from here on
        plan, request = self._plan(begun.parts), self.request
        block, own = request.block, np.arange(request.block) % self.base.each
        base_values = self._measured(measure, begun.base_logits, _prompts_of(self.base))
        first_rows = np.array([cell.prompt * self.base.each for cell in request.cells], dtype=int)
        values = base_values[:, first_rows[:, None] + own]
        with progress_bar(plan.cells, progress) as bar:
            bar.update(plan.null_cells)
            for part in begun.parts:
                self._take_sources(begun, part)
                for group, logits in self._passes(part, begun):
                    prompts = np.repeat([cell.prompt for cell in group], block)
                    rows = self._measured(measure, logits, prompts)
                    rows = rows.reshape(len(base_values), len(group), block)
                    values[:, [cell.index for cell in group]] = rows
                    bar.update(len(group))
        source_values = self._measured(measure, begun.source_logits, _prompts_of(self.source))
        plan.elapsed = begun.took + self._clock() - began
        found = [of_first(x, self.resolver.group) for x in (values, base_values, source_values)]
        return Outcome(found[0], found[1], found[2], plan)

    def _measured(
        self, measure: Measure | Sequence[Measure], logits: np.ndarray, prompts: np.ndarray
    ) -> np.ndarray:
        """The metrics of some rows, a few at a time where float64 copies of all would be large."""
        step = max(1, self.request.max_memory // METRIC_SHARE // (METRIC_BYTES * logits[0].size))

        def of_rows(rows: slice) -> np.ndarray:
            if callable(measure):
                return measure(logits[rows])
            return measured_by_prompt(measure, logits[rows], prompts[rows])

        parts = [of_rows(slice(i, i + step)) for i in range(0, max(1, len(logits)), step)]
        return np.concatenate(parts, axis=1)

    def _passes(self, part: Part, begun: PlainRuns) -> Iterator[tuple[list[PlannedCell], np.ndarray]]:
        """Each pass's cells, in order of birth, and their logits `[cells x block, ...]`; the base rows are checked."""
        request = self.request
        for group in (sorted(group, key=lambda cell: cell.birth) for group in part.groups):
            if self.engine.name == "loop":
                cell, own = group[0], part.kept(group[0].patches)
                every = run_loop(self.resolver, self.base, begun.sources, own, request.block, cell.prompt)
                yield group, every if request.every_position else last_logits(every, request.last)
                continue
            lanes = cut(group, request) if len(group) >= FEWEST and not part.eager else [group]
            batches = [self._batch(lane, begun) for lane in lanes]
            found = run_together(batches) if len(lanes) > 1 else [batches[0].run()]
            for lane, batch, logits in zip(lanes, batches, found, strict=True):
                base_rows = batch.base_rows
                self._check_base(logits[: len(base_rows)], begun.base_logits[base_rows])
                yield lane, logits[len(base_rows) :]

    def _batch(self, group: list[PlannedCell], begun: PlainRuns) -> Batch:
        request, part = self.request, begun.part
        start = request.start_of(group, part.prefix)
        return Batch(
            self.resolver,
            self.base,
            begun.sources,
            [(cell.birth, part.kept(cell.patches)) for cell in group],
            request.block,
            start,
            begun.caches if part.prefix else None,
            self.engine.axes,
            sparse=self.engine.name == "fanout" and self.engine.causal,
            every_position=request.every_position,
            eager=part.eager,
            prompts=[cell.prompt for cell in group],
            read=request.last,
            merged=request.merged(start),
        )

    def _check_base(self, rows: np.ndarray, plain: np.ndarray) -> None:
        off = calibration.beyond_rounding(self.resolver, rows, plain)
        if off:
            raise EngineError(
                f"the base rows of the {self.engine.name} engine differ from the plain run's logits by {off}: "
                "nothing was returned; use engine='loop'"
            )


def progress_bar(cells: int, progress: Any) -> contextlib.AbstractContextManager[Any]:
    """A bar over so many cells: True or False, None: in a terminal or notebook; or a bar that others drive."""
    if hasattr(progress, "update"):
        return contextlib.nullcontext(progress)
    return tqdm(total=cells, unit="cell", disable=None if progress is None else not progress)


def _prompts_of(runs: Rows) -> np.ndarray:
    """By row of some runs, which prompt it is of."""
    return np.repeat(np.arange(len(runs.members)), runs.each)
