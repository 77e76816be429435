"""One screen as it goes on: cells in the order of their gradients, which of them were run, and what they did.

found = Screening(model, cells, measured, how, progress, wanted, began)
found.rank(methods); found.verify(); found.draw()
result = found.result(direction, positions)
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..engine.memory import agreed, of_first
from ..results.screened import HELD
from ..results.screened import Screened as Screened
from .screen_cells import ScreenCells, UnsupportedError
from .sweeps import notes_of, plan_of, sweep_pairs

FIRST = 25  # cells of the first step where a budget may end the verification, doubled from step to step


@dataclass(frozen=True)
class Wanted:
    """How many cells are verified and audited, and what may end it; checked."""

    verify: int
    audit: int
    stable: bool
    seconds: float
    passes: float
    seed: int

    @property
    def bounded(self) -> bool:
        """Whether there is a budget."""
        return min(self.seconds, self.passes) < math.inf


@dataclass
class Screening:
    """The state of one screen.

    measured: the metric of each pair, bound. gradients: of each pair what each method differentiates.
    how: options of the sweeps. began: when the call did.
    order: the cells that can differ, best first. ran: those that were run, in that order. effects: what they did,
    `[pairs, ran]`. verified: how many of the order were run, beside the audit's sample. ranked_by: the methods that
    each component was ranked by.
    """

    model: Any
    cells: ScreenCells
    measured: list[Any]
    gradients: list[dict[str, Any]]
    how: dict[str, Any]
    progress: bool | None
    wanted: Wanted
    began: float
    ran: list[int] = field(default_factory=list)
    verified: int = 0
    passes: int = 0
    ended: str = ""
    notes: list[str] = field(default_factory=list)
    ranked_by: dict[str, dict[str, None]] = field(default_factory=dict)

    def rank(self, methods: dict[str, tuple[str, ...]]) -> None:
        """Estimate every cell, and put those that can differ in order, the strongest first.

        methods: by component, one for each of several rankings. A cell stands where the ranking that has it highest
        puts it: what one way of guessing does not see, another may.
        """
        live = np.flatnonzero(np.any([self.cells.live(i, **self.how) for i in self._pairs], axis=0))
        places, refused = [], None
        for i in range(max(map(len, methods.values()))):
            by = {name: several[min(i, len(several) - 1)] for name, several in methods.items()}
            try:
                estimates = self._estimates(by)
            except UnsupportedError as error:
                refused = error
                self.notes.append(f"not ranked by {' and '.join(dict.fromkeys(by.values()))}: {error}")
                continue
            self.estimates = estimates if not places else self.estimates
            for name, method in by.items():
                self.ranked_by.setdefault(name, {})[method] = None
            order = np.argsort(-np.abs(estimates[live]), kind="stable")
            places.append(np.argsort(order, kind="stable"))
        if refused is not None and not places:
            raise refused
        self.order = live[np.lexsort((places[0], np.min(places, axis=0)))]
        self.effects = np.zeros((len(self.measured), 0))
        self.ranked = time.perf_counter()

    @property
    def _pairs(self) -> range:
        return range(len(self.measured))

    def _estimates(self, methods: dict[str, str]) -> np.ndarray:
        """The estimated effect of each cell `[cells]`, mean over the pairs that have it."""
        memory = self.how["max_memory"]
        found = [self.cells.estimated(i, methods, self.gradients[i], memory) for i in self._pairs]
        there = ~np.isnan(found)
        mean = np.nansum(found, 0) / np.maximum(there.sum(0), 1)
        return of_first(mean, self.model.resolver.group)

    # ---- the exact part

    def verify(self) -> None:
        """Run the best cells: as many as were asked for, until the strongest stay the same, or the budget ends."""
        asked, n = self.wanted, len(self.order)
        if not asked.stable and not asked.bounded:
            self.verified = min(asked.verify, n)  # run with the audit, in one sweep
            return
        step, before = FIRST if asked.bounded else asked.verify, None
        while self.verified < n:
            end = min(step, asked.verify if self.verified < asked.verify else n, n)
            cells = self.order[self.verified : end].tolist()
            allowed = self._allowed(cells, True)
            self._run(cells[:allowed])
            self.verified += allowed
            if self.verified < end:
                break
            if end >= asked.verify:
                strongest = set(self._strongest())
                if not asked.stable or strongest == before:
                    break
                before = strongest
            step = 2 * end

    @property
    def lacking(self) -> bool:
        """Whether the budget did not allow a single cell."""
        return self.wanted.bounded and len(self.order) > 0 and not self.verified

    def _strongest(self) -> list[int]:
        """The cells with the largest effects among those that were run."""
        size = np.abs(np.nanmean(self.effects, 0))
        return [self.ran[i] for i in np.argsort(-size, kind="stable")[:HELD]]

    def draw(self) -> None:
        """Draw the audit's sample from the cells that were not verified, and run it."""
        rest = self.order[self.verified :]
        random = np.random.default_rng(self.wanted.seed)
        drawn = rest[random.permutation(len(rest))[: self.wanted.audit]].tolist()
        if self.ran:
            self._run(drawn[: self._allowed(drawn, False)])
        else:
            self._run([*self.order[: self.verified].tolist(), *drawn])

    def _run(self, chosen: list[int]) -> None:
        """Run some cells exactly, on every pair, and keep what they did."""
        if not chosen:
            return
        jobs = self.cells.jobs(chosen)
        found = sweep_pairs(self.model, jobs, lambda i, *_: self.measured[i], self.progress, **self.how)
        values = [outcome.values[0].mean(-1) - outcome.base[0].mean() for _, outcome in found]
        self.effects = np.concatenate([self.effects, self.cells.effects(chosen, values)], axis=1)
        self.ran += chosen
        self.passes += found[0][1].plan.passes

    # ---- the budget

    def _allowed(self, cells: list[int], keep: bool) -> int:
        """How many of some cells the budget still allows. keep: with the audit that so many verified cells ask for."""
        left, asked = len(cells), self.wanted
        while left and asked.bounded:
            share = min(1.0, (self.verified + left) / asked.verify) if keep else 0.0
            reserved = math.ceil(share * asked.audit)
            self.ended = self._lacking(cells[:left], reserved) or self.ended
            if not self._lacking(cells[:left], reserved):
                break
            left //= 2
        return left

    def _lacking(self, cells: list[int], reserved: int) -> str:
        """What the budget lacks for some cells and so many of the audit: "seconds", "passes", or nothing."""
        asked, now = self.wanted, time.perf_counter()
        if self.ran and asked.seconds < math.inf:
            group = self.model.resolver.group
            took, ranked = agreed((now - self.began, now - self.ranked), group)
            if took + ranked / len(self.ran) * (len(cells) + reserved) > asked.seconds:
                return "seconds"
        if asked.passes < math.inf:
            audit = self.order[:: max(1, len(self.order) // max(reserved, 1))][:reserved].tolist()
            if self.passes + self._passes(cells) + self._passes(audit) > asked.passes:
                return "passes"
        return ""

    def _passes(self, cells: list[int]) -> int:
        """The passes that a sweep over some cells takes."""
        return plan_of(self.model, self.cells.jobs(cells), **self.how).passes if cells else 0

    # ---- what comes back

    def result(self, direction: str, positions: Any) -> Screened:
        """What was found."""
        asked, made, first = self.wanted, self.cells.made, self.measured[0]
        tokens, name = list(made.pairs[0].clean_prompt.tokens), first.metrics[0].name
        places = {int(cell): i + 1 for i, cell in enumerate(self.order)}
        of_blocks = self.cells.jobs([block.first for block in self.cells.blocks])[0].cells
        said = [note for pair in made.pairs for note in pair.notes]
        said += [note for grid in self.cells.blocks[0].grids for note in grid.places.notes]
        said += [note for measured in self.measured for note in (*measured.notes, *measured.remarks)]
        return Screened(
            model=self.model.name,
            methods={name: " + ".join(several) for name, several in self.ranked_by.items()},
            metric=name,
            direction=direction,
            positions=list(positions) if isinstance(positions, range) else positions,
            cells=len(self.cells),
            live=len(self.order),
            verify=self.verified,
            rows=[self.cells.row(cell, tokens) for cell in self.ran],
            ranks=[places[cell] for cell in self.ran],
            estimates=self.estimates[self.ran],
            per_pair=self.effects,
            clean=float(np.mean([m.clean[name] for m in self.measured])),
            corrupted=float(np.mean([m.corrupted[name] for m in self.measured])),
            target=first.target.text if made.alone else None,
            foil=first.foil.text if made.alone and first.foil is not None else None,
            clean_text=made.pairs[0].clean_text,
            corrupted_text=made.pairs[0].corruption or made.pairs[0].corrupted_text,
            ids=[] if made.alone else list(made.ids),
            asked={"verify": asked.verify, "audit": asked.audit, "stable": asked.stable, "seed": asked.seed},
            ended=self.ended,
            passes=self.passes,
            seconds=time.perf_counter() - self.began,
            notes=[*dict.fromkeys([*self.notes, *made.notes, *said, *notes_of(self.model, of_blocks)])],
        )
