"""The sweep over paths of a pair: one, or one for each context where answers of several tokens are scored whole.

    runs = PathRuns(model, graph, role, asked, engine, max_memory)
    base, source = runs.logits()                       # as `settle_whole` takes those of plain runs
    runs.run(cells, measured).values                   # [metric, cell, sample], every answer put together

An answer's tokens are positions of both runs, and answer to each other: where all positions of a prompt are patched
together they are patched as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..engine.path_sweep import (
    Graph,
    Outcome,
    PathCell,
    PathSweep,
    Receiver,
    Sender,
    choose,
    progress_bar,
)
from .whole_runs import WholeRuns, values_of

__all__ = [
    "ALL",
    "Graph",
    "PathCell",
    "PathRuns",
    "Receiver",
    "Sender",
    "choose",
    "progress_bar",
    "values_of",
]

ALL = "all positions are patched together, and so are those of the answer's tokens behind the prompt"


class PathRuns:
    """Sweeps of one pair in every context.

    Args:
        model: whose paths. graph: its senders and receivers.
        role: which run is patched, and which gives contributions. asked: the answers that are scored whole, or None.
        engine, max_memory: as `PathSweep` takes them.

    Attributes:
        sweeps: a `PathSweep` for each context.
        answer: the positions of the base run that an answer's tokens have behind the prompt.
    """

    def __init__(
        self, model: Any, graph: Graph, role: Any, asked: Any, engine: Any, max_memory: int | None = None
    ):
        self.whole = WholeRuns(role, asked)
        more = range(self.whole.read - 1)
        self.answer = tuple(role.base.length + i for i in more)
        at = [*(role.at[p] for p in role.at), *self.answer]
        source_at = [*(role.source_at[p] for p in role.at), *(role.source.length + i for i in more)]
        max_memory = max_memory and max_memory // self.whole.contexts
        self.sweeps = [
            PathSweep(model.resolver, graph, base, source, at, source_at, engine, max_memory, self.whole.read)
            for base, source in zip(self.whole.bases, self.whole.sources, strict=True)
        ]

    def logits(self) -> tuple[np.ndarray, np.ndarray]:
        """Those of the base and of the source run, stacked."""
        both = ([s.base.logits for s in self.sweeps], [s.source.logits for s in self.sweeps])
        base, source = (self.whole.stacked(np.concatenate(found)) for found in both)
        return base, source

    @property
    def normed(self) -> bool:
        """Whether a norm stands between heads and the stream."""
        return self.sweeps[0].normed

    def run(
        self, cells: Sequence[PathCell], measured: Any, progress: Any = None, live: bool = False
    ) -> Outcome:
        """Run every cell in every context; the values are those of the metrics of whole answers."""
        if len(self.sweeps) == 1:
            return self.sweeps[0].run(cells, measured, progress, live)
        found = []
        with progress_bar(len(cells) * len(self.sweeps), progress) as bar:
            for i, sweep in enumerate(self.sweeps):
                found.append(sweep.run(cells, measured.part(i), bar, live))
        parts = zip(*((one.values, one.base, one.source) for one in found), strict=True)
        plans = [one.plan for one in found]
        plan = replace(
            plans[0],
            rows=sum(plan.rows for plan in plans),
            passes=sum(plan.passes for plan in plans),
            seconds=sum(plan.seconds for plan in plans),
            elapsed=sum(plan.elapsed or 0.0 for plan in plans),
        )
        values, base, source = (measured.combined(part) for part in parts)
        return Outcome(values, base, source, plan)
