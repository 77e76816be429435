"""Runs of several prompts as rows of one batch, which a sweep takes in the place of one run.

runs = Runs((run, other, third))      # of one length
Sweep(resolver, runs, sources, [Cell(patches, prompt=2), ...], engine)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..errors import EngineError
from .runs import Run


@dataclass(frozen=True)
class Runs:
    """Runs of one length, and of one number of samples, as rows of a batch: those of the first member come first.

    EngineError when they are not of one length or have not the same number of rows.
    """

    members: tuple[Run, ...]

    def __post_init__(self) -> None:
        shapes = {(run.length, run.rows) for run in self.members}
        if len(shapes) != 1:
            raise EngineError(
                f"runs of one batch have one length and one number of samples, not {sorted(shapes)}: "
                "run those that differ one at a time"
            )

    @property
    def rows(self) -> int:
        return len(self.members) * self.each

    @property
    def each(self) -> int:
        """Rows of each member."""
        return self.members[0].rows

    @property
    def length(self) -> int:
        return self.members[0].length

    @property
    def noised(self) -> tuple[int, ...]:
        """Every position at which a member has noise."""
        return tuple(sorted({p for run in self.members for p in run.noised}))

    @functools.cached_property
    def _ids(self) -> np.ndarray:
        return np.array([run.ids for run in self.members], dtype=np.int32)

    def tokens(self, rows: np.ndarray, start: int = 0) -> mx.array:
        """The token ids `[N, T - start]` of rows."""
        return mx.array(self._ids[rows // self.each, start:])

    def embedded(self, x: mx.array, rows: np.ndarray, start: int = 0) -> mx.array:
        """The embeddings `[N, T - start, D]` of rows (rows[i] counts through all members) with their runs' noise."""
        at_row, at, values, replaced = [], [], [], []
        for member in np.unique(rows // self.each):
            run, mine = self.members[member], np.flatnonzero(rows // self.each == member)
            kept = [i for i, p in enumerate(run.noised) if p >= start]
            if run.noise is None or not kept:
                continue
            at_row.append(np.repeat(mine, len(kept)))
            at.append(np.tile(np.array(run.noised)[kept] - start, len(mine)))
            values.append(run.noise[rows[mine] % self.each][:, kept].reshape(-1, x.shape[-1]))
            replaced.append(np.full(len(mine) * len(kept), run.replace))
        if not at:
            return x
        row, position = (mx.array(np.concatenate(index)) for index in (at_row, at))
        noise = mx.array(np.concatenate(values).astype(np.float32))
        kept_part = mx.where(
            mx.array(np.concatenate(replaced))[:, None], 0, x[row, position].astype(mx.float32)
        )
        y = mx.array(x)  # a handle of its own: models write to their embeddings in place
        y[row, position] = (kept_part + noise).astype(x.dtype)
        return y


def measured_by_prompt(
    measures: Sequence[Callable[[np.ndarray], np.ndarray]], logits: np.ndarray, prompts: np.ndarray
) -> np.ndarray:
    """The metrics `[metrics, rows]` of logits, each row by the measure of its prompt."""
    members = np.unique(prompts).tolist()
    if len(members) == 1:
        return measures[members[0]](logits)
    rows_of = [np.flatnonzero(prompts == member) for member in members]
    found = [measures[i](logits[rows]) for i, rows in zip(members, rows_of, strict=True)]
    values = np.empty((len(found[0]), len(logits)))
    values[:, np.concatenate(rows_of)] = np.concatenate(found, axis=1)
    return values
