"""The runs of a pair whose answers of several tokens are forced behind its prompts: a member for each context.

runs = WholeRuns(role, asked)              # asked: `Asked`, or None where answers are one token
runs.base, runs.source                     # each as rows of one batch
runs.stacked(logits)                       # logits of all their rows, as `settled` takes those of a plain run
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine.joint_runs import Runs
from .sweeps import Job, plain_logits


class WholeRuns:
    """Both runs of a pair with each context behind their prompts.

    Args:
        role: which run is patched, and which gives the activations.
        asked: the answers that are scored whole; None for a plain pair.

    Attributes:
        contexts: how many there are. read: how many of the last positions are read.
    """

    def __init__(self, role: Any, asked: Any = None):
        self.job = Job(role.base, role.source, [], ((),) if asked is None else asked.contexts)
        self.contexts, self.read = len(self.job.contexts), self.job.read

    @property
    def bases(self) -> list[Any]:
        """The run that is patched, in each context."""
        return self.job.runs(self.job.base)

    @property
    def sources(self) -> list[Any]:
        """The run that activations come from, in each context."""
        return self.job.runs(self.job.source)

    @property
    def base(self) -> Any:
        """The run that is patched, in all contexts."""
        return _together(self.bases)

    @property
    def source(self) -> Any:
        """The run that activations come from, in all contexts."""
        return _together(self.sources)

    def stacked(self, logits: np.ndarray) -> np.ndarray:
        """Logits `[contexts * rows, read, V]` as `[contexts, rows, read, V]`; those of one position as they are."""
        return logits if self.read == 1 else logits.reshape(self.contexts, -1, *logits.shape[1:])

    def plain_logits(self, model: Any) -> tuple[np.ndarray, np.ndarray]:
        """The logits of base and source run, stacked."""
        both = (plain_logits(model, runs, self.read) for runs in (self.bases, self.sources))
        base, source = (self.stacked(np.concatenate(found)) for found in both)
        return base, source


def _together(runs: Sequence[Any]) -> Any:
    return Runs(tuple(runs)) if len(runs) > 1 else runs[0]


def values_of(measured: Any, logits: np.ndarray) -> np.ndarray:
    """What is measured `[metrics, rows]` of a run's stacked logits."""
    return measured.of(logits) if hasattr(measured, "of") else measured(logits)


def between(base: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Logits half of the way between both runs' means, `[contexts, read, V]` or `[1, V]`."""
    here, there = (x[None] if x.ndim == 2 else x for x in (base, source))
    return (here.mean(1) + there.mean(1)) / 2


def flat(logits: np.ndarray) -> np.ndarray:
    """Stacked logits as those of a batch's rows."""
    return logits if logits.ndim == 2 else logits.reshape(-1, *logits.shape[2:])
