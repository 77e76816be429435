"""Vectors written at one position of a run, each at each of some sites: a row of a few passes for every two.

    found = Transplant(resolver, run, sites, position, engine).run(vectors, measure)
    found.values               # [metrics, sites, vectors]

The rows are born, patched and read as those of a sweep are; only what is written comes from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from . import calibration
from .batch import Batch
from .loop import run_loop
from .sweep import (
    METRIC_BYTES,
    Cell,
    Engine,
    EngineError,
    InputError,
    ModuleResolver,
    Patch,
    Request,
    Run,
    allowed_bytes,
    capture,
    make_prompt_cache,
    memory_limit,
    progress_bar,
)

Measure = Callable[[np.ndarray], np.ndarray]  # logits [rows, read, V] -> [metrics, rows]
MOST_ROWS = 1024  # of one pass


@dataclass(frozen=True)
class Transplanted:
    """What was measured: `values[metric, site, vector]`, of the run as it is `base[metric]`; and in how many passes."""

    values: np.ndarray
    base: np.ndarray
    passes: int


class Transplant:
    """Where in a run vectors are written.

    Args:
        resolver: of the model.
        base: the run.
        sites: where they are written, one at a time; each is `[rows, T, D]`.
        position: at which token.
        engine: how the model is swept.
        read: the last so many positions' logits are measured.
        max_memory: bytes beside the weights; None: a quarter of what is free.
    """

    def __init__(
        self,
        resolver: ModuleResolver,
        base: Run,
        sites: Sequence[Any],
        position: int,
        engine: Engine,
        read: int = 1,
        max_memory: Any = None,
    ):
        self.resolver, self.base, self.engine, self.read = resolver, base, engine, read
        self.sites, self.position, self.allowed = (
            list(sites),
            position,
            allowed_bytes(max_memory, resolver.group),
        )
        cells = [Cell((Patch(site, (position,), (position,), fixed=True),)) for site in sites]
        request = Request(resolver, base, base, base, cells, engine, False, self.allowed, read)
        self.planned = sorted(request.planned(), key=lambda cell: cell.birth)  # the others change nothing
        self.shares = engine.name == "fanout" and engine.prefix and position > 0
        self.start = min(position, base.length - read) if self.shares else 0

    def _bytes(self, rows: int) -> int:
        length, vocab = self.base.length, self.resolver.structure.vocab_size
        ran = length - self.start
        written = [cell.patches[0].site for cell in self.planned]
        read = length if self.engine.name == "loop" else self.read
        need = calibration.pass_bytes(self.resolver, rows + 1, ran, length, written, read)
        kept = calibration.cache_bytes(self.resolver, length) if self.shares else 0
        return need + kept + METRIC_BYTES * vocab * self.read

    def _most_rows(self) -> int:
        """How many rows a pass may have; InputError when not one fits the memory."""
        if self._bytes(1) > self.allowed:
            raise InputError(
                f"{memory_limit(self.allowed)}, but a single row needs about {self._bytes(1)}: allow at least "
                "that, or use a shorter prompt"
            )
        fewest, most = 1, 1 if self.engine.name == "loop" else MOST_ROWS
        while fewest < most:
            middle = (fewest + most + 1) // 2
            fewest, most = (middle, most) if self._bytes(middle) <= self.allowed else (fewest, middle - 1)
        return fewest

    def run(self, vectors: mx.array, measure: Measure, progress: Any = None) -> Transplanted:
        """Write each of the vectors `[n, D]` at each site; `measure` gets logits `[rows, read, V]`, pass by pass."""
        by_loop, most = self.engine.name == "loop", self._most_rows()
        caches = self._new_caches() if self.shares else None
        logits, _ = capture(self.resolver, self.base, [], caches, read=self.read)
        plain = self._each_read(logits)
        base = measure(plain)[:, 0]
        values = np.broadcast_to(base[:, None, None], (len(base), len(self.sites), len(vectors))).copy()
        pairs = [(cell, row) for cell in self.planned for row in range(len(vectors))]
        passes = 0
        with progress_bar(values[0].size, progress) as bar:
            bar.update(values[0].size - len(pairs))
            for i in range(0, len(pairs), most):
                some = pairs[i : i + most]
                rows = self._loop(some, vectors) if by_loop else self._pass(some, vectors, caches, plain)
                found = measure(rows)
                for n, (cell, row) in enumerate(some):
                    values[:, cell.index, row] = found[:, n]
                passes += 1
                bar.update(len(some))
        return Transplanted(values, base, passes)

    def _each_read(self, logits: np.ndarray) -> np.ndarray:
        """Logits `[rows, read, V]`."""
        return logits.reshape(len(logits), self.read, -1)

    def _new_caches(self) -> list[Any]:
        caches = make_prompt_cache(self.resolver.net)
        for cache in caches:
            cache.step = self.base.length
        return caches

    def _pass(
        self, pairs: Sequence[tuple[Any, int]], vectors: mx.array, caches: Any, plain: np.ndarray
    ) -> np.ndarray:
        """Logits `[pairs, read, V]` of one pass; its base row is checked."""
        source = vectors[:, None]
        cells = []
        for cell, row in pairs:
            (patch,) = cell.patches
            cells.append((cell.birth, [Patch(patch.site, patch.at, (0,), source_row=row)]))
        batch = Batch(
            self.resolver,
            self.base,
            {False: {cell.patches[0].site.name: source for cell, _ in pairs}},
            cells,
            1,
            self.start,
            caches,
            self.engine.axes,
            sparse=self.engine.name == "fanout" and self.engine.causal,
            read=self.read,
            merged=self.shares and self.engine.merges(self.start, self.base.length - self.start),
        )
        logits = self._each_read(batch.run())
        off = calibration.beyond_rounding(self.resolver, logits[:1], plain)
        if off:
            raise EngineError(
                f"the base row of the {self.engine.name} engine differs from the plain run's logits by {off}: nothing "
                "was returned; use engine='loop'"
            )
        return logits[1:]

    def _loop(self, pairs: Sequence[tuple[Any, int]], vectors: mx.array) -> np.ndarray:
        """The same by one traced pass for each."""
        found = []
        for cell, row in pairs:
            (patch,) = cell.patches
            sources = {False: {patch.site.name: vectors[row : row + 1, None]}}
            own = Patch(patch.site, patch.at, (0,))
            found.append(run_loop(self.resolver, self.base, sources, [own], 1)[:, -self.read :])
        return np.concatenate(found)
