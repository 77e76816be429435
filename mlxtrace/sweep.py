"""The engine: plan the cells of an experiment, run them in as few forward passes as memory allows.

    outcome = sweep(resolver, base, source, cells, measure)

`batch` says how one pass works. Here the cells are planned: null cells are not run, every cell gets the layer
at which it is born and the first position that it can change, cells are grouped into passes, and afterwards each
pass is checked: planned taps fired, and the base rows agree with the plain run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import make_prompt_cache
from tqdm import tqdm

from . import calibration
from .attention import INTERNALS
from .batch import FLAT, Batch
from .errors import EngineError, InputError
from .resolver import ModuleResolver, Site
from .runs import Cell, Patch, Run, capture, norm_input, time_axis
from .textbook import run_textbook

# A pass costs its weights' traffic whatever its rows: as much as this many tokens, per layer.
PASS_TOKENS = 48
# Of a token's work in a layer, what is left when projections and MLP skip it: norms, attention, sums.
DENSE_SHARE = 0.15


@dataclass(frozen=True)
class Engine:
    """How a model is swept: the engine, whether prefixes are shared, and what the probe found.

    causal: no position sees a later one. axes: see `batch.side_axes`. why: one phrase for the plan.
    """

    name: str
    prefix: bool = False
    causal: bool = True
    axes: dict = field(default_factory=dict)
    why: str = ""


Measure = Callable[[np.ndarray], np.ndarray]


@dataclass
class Plan:
    """What a sweep runs, and after it what it took.

    cells, null_cells: asked for, and of these not run because they cannot differ from the base run. rows:
    batch rows of all passes, base rows included. bytes: estimated peak of the largest pass. seconds:
    estimated from a timed small pass. elapsed: measured.
    """

    engine: str
    cells: int
    null_cells: int
    rows: int
    passes: int
    bytes: int
    seconds: float
    prefix: bool = False
    why: str = ""
    elapsed: float | None = None
    starts: list[int] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def __str__(self) -> str:
        took = f"{self.elapsed:.2f} s" if self.elapsed is not None else f"about {self.seconds:.2g} s"
        lines = [
            f"engine      {self.engine}" + (f" ({self.why})" if self.why else ""),
            f"cells       {self.cells}, of which {self.null_cells} cannot differ from the base run and are not run",
            f"passes      {self.passes}, {self.rows} rows in all"
            + (f", from positions {', '.join(map(str, self.starts))}" if self.prefix else ""),
            f"memory      about {self.bytes / 1e6:.0f} MB beside the weights",
            f"time        {took}",
        ]
        return "\n".join(lines)


@dataclass
class Outcome:
    """What a sweep returns: `values[metric, cell, sample]`, float64, and the same for the two plain runs."""

    values: np.ndarray
    base: np.ndarray
    source: np.ndarray
    plan: Plan


@dataclass(frozen=True)
class Planned:
    """A cell that is run: where it stands in the caller's list, its birth, first position and patches."""

    index: int
    birth: int
    start: int
    patches: tuple[Patch, ...]


class Sweep:
    """One experiment on one model: `plan` says what would run, `run` runs it.

    Args:
        base: the run that is patched. source: the run that the activations come from.
        cells: what is patched, cell by cell.
        engine: how (see `engines.choose`). max_memory: bytes beside the weights; None: a quarter of what is free.
        held: the run that held patches take their values from; None: the base run itself.
        every_position: `measure` gets logits `[rows, T, V]`, not the last position's `[rows, V]`.
    """

    def __init__(
        self,
        resolver: ModuleResolver,
        base: Run,
        source: Run,
        cells: Sequence[Cell],
        engine: Engine,
        max_memory: int | None = None,
        held: Run | None = None,
        every_position: bool = False,
    ):
        fits = isinstance(max_memory, Real) and not isinstance(max_memory, bool) and 0 < max_memory < math.inf
        if max_memory is not None and not fits:
            raise InputError(f"max_memory is a number of bytes above 0, not {max_memory!r}")
        self.resolver, self.base, self.source, self.cells = resolver, base, source, list(cells)
        self.held, self.engine = base if held is None else held, engine
        self.every_position = every_position
        self.block = max(base.rows, source.rows)
        self.max_memory = calibration.default_memory() if max_memory is None else int(max_memory)
        self.length = len(base.ids)
        self._held_bytes = 0  # of the activations captured for the sweep
        self._sources: dict[bool, dict] | None = None

    # ---- planning

    @property
    def first_difference(self) -> int:
        """The first position at which the two runs can differ at all."""
        a, b = self.base, self.source
        different = [i for i, (x, y) in enumerate(zip(a.ids, b.ids, strict=False)) if x != y]
        candidates = [*different[:1], *a.noised, *b.noised, min(len(a.ids), len(b.ids))]
        return min(candidates) if self.engine.causal else 0

    def _planned(self) -> list[Planned]:
        """The cells that can differ from the base run, with null positions dropped and births found."""
        planned = []
        for index, cell in enumerate(self.cells):
            patches = [p for patch in cell.patches for p in self._effective(patch)]
            if patches:
                birth = min(self._birth(p.site) for p in patches)
                start = min(min(p.at) for p in patches)
                planned.append(Planned(index, birth, start, tuple(patches)))
        return planned

    def _effective(self, patch: Patch) -> list[Patch]:
        """The patch at the positions where it can matter, moved up to the next layer's input if it may be."""
        pairs = zip(patch.at, patch.source_at, strict=True)
        if not patch.held:
            pairs = [(p, q) for p, q in pairs if p >= self.first_difference or p != q]
        site = patch.site
        info = self.resolver.structure
        last = site.layer == len(info.layers) - 1
        if (
            last
            and site.component in ("mlp", "resid_post", "neuron")
            and info.norm
            and self.engine.causal
            and not self.every_position
        ):
            pairs = [(p, q) for p, q in pairs if p == self.length - 1]
        pairs = list(pairs)
        if not pairs:
            return []
        at, source_at = zip(*pairs, strict=True)
        return [replace(patch, site=self._moved(site), at=at, source_at=source_at)]

    def _moved(self, site: Site) -> Site:
        """A layer's output is the next layer's input: patched there, its row is born one layer later."""
        if self.engine.name != "fanout" or site.component != "resid_post":
            return site
        if site.layer < self.resolver.n_layers - 1:
            chained = self.resolver.layer(site.layer).chained
            return self.resolver.site("resid_pre", site.layer + 1) if chained else site
        return norm_input(self.resolver) if self.resolver.structure.norm else site

    def _birth(self, site: Site) -> int:
        if self.engine.name != "fanout":
            return FLAT
        if site.layer is None:
            return self.resolver.n_layers if site.name == "norm.input" else FLAT
        return site.layer

    def _groups(self, planned: list[Planned]) -> list[list[Planned]]:
        """Cells by pass: grouped by first position when a prefix can be shared, then split to fit memory."""
        if self.engine.name == "loop":
            return [[cell] for cell in planned]
        if not planned:
            return []
        groups = self._by_start(planned) if self.engine.name == "fanout" and self.engine.prefix else [planned]
        return [part for group in groups for part in self._fitted(group)]

    def _by_start(self, planned: list[Planned]) -> list[list[Planned]]:
        """Cut the cells, sorted by first position, where it is cheapest: fewer passes or fewer positions."""
        starts = sorted({cell.start for cell in planned})
        at = {s: [c for c in planned if c.start == s] for s in starts}
        n_layers, length = self.resolver.n_layers, self.length
        work = {s: sum(n_layers - c.birth for c in cells) * self.block for s, cells in at.items()}
        best: list[tuple[float, int]] = [(0.0, 0)]  # cheapest cost of the first i starts, and the last cut
        for i in range(1, len(starts) + 1):
            options = []
            for j in range(i):
                rows = sum(work[s] for s in starts[j:i])
                tokens = (rows * self._dense_share() + self.base.rows * n_layers) * (length - starts[j])
                options.append((best[j][0] + n_layers * PASS_TOKENS + tokens, j))
            best.append(min(options))
        cuts, i = [], len(starts)
        while i:
            cuts.append((best[i][1], i))
            i = best[i][1]
        return [[c for s in starts[j:i] for c in at[s]] for j, i in reversed(cuts)]

    def _dense_share(self) -> float:
        """The part of a token's work that is done even where it cannot differ (see `Batch.sparse`)."""
        return DENSE_SHARE if all(layer.acts for layer in self.resolver.structure.layers) else 1.0

    def _fitted(self, group: list[Planned]) -> list[list[Planned]]:
        """Split a pass by positions, then by layers, until it fits the memory."""
        need = self._bytes(group)
        if need <= self.max_memory:
            return [group]
        if len(group) == 1:
            raise InputError(
                f"max_memory is {self.max_memory} bytes, but a single cell needs about {need}: "
                f"allow at least that, use a shorter prompt or fewer noise samples"
            )
        group = sorted(group, key=lambda c: (c.start, c.birth))
        half = len(group) // 2
        return [*self._fitted(group[:half]), *self._fitted(group[half:])]

    def _bytes(self, group: list[Planned]) -> int:
        rows = self.base.rows + self.block * len(group)
        ran = self.length - self._start(group)
        return self._held_bytes + rows * calibration.row_bytes(
            self.resolver, ran, self.length, self.every_position
        )

    def _start(self, group: list[Planned]) -> int:
        """The first position that a pass runs; inside attention, keys must count from the prompt's start."""
        if self.every_position or any(p.site.side in INTERNALS for c in group for p in c.patches):
            return 0
        if self.engine.name != "fanout" or not self.engine.prefix:
            return 0
        return min(c.start for c in group)

    def plan(self) -> Plan:
        """What would run, without running it (the probes that measure the model are run)."""
        planned = self._planned()
        return self._plan(planned, self._groups(planned))

    def _plan(self, planned: list[Planned], groups: list[list[Planned]]) -> Plan:
        starts = [self._start(g) for g in groups]
        once, per_token = calibration.timing(self.resolver)
        tokens = 0.0
        for group, start in zip(groups, starts, strict=True):
            depth = sum(self.resolver.n_layers - max(c.birth, 0) for c in group) / self.resolver.n_layers
            tokens += (self.length - start) * (depth * self.block + self.base.rows)
        loop = self.engine.name == "loop"
        return Plan(
            engine=self.engine.name,
            cells=len(self.cells),
            null_cells=len(self.cells) - len(planned),
            rows=sum(len(g) * self.block + (0 if loop else self.base.rows) for g in groups),
            passes=len(groups),
            bytes=max((self._bytes(g) for g in groups), default=0),
            seconds=once * (len(groups) + 2) + per_token * tokens,
            prefix=any(starts),
            why=self.engine.why,
            starts=sorted(set(starts)),
        )

    # ---- running

    def begin(self) -> tuple[np.ndarray, np.ndarray]:
        """Run base and source plainly and keep what the patches need; both runs' logits, as `measure` gets them."""
        self._cells_run = self._planned()
        patches = [patch for cell in self._cells_run for patch in cell.patches]
        self._caches = make_prompt_cache(self.resolver.net) if self.engine.prefix else None
        every = self.every_position
        here = [p.site for p in patches if p.held]
        there = [p.site for p in patches if not p.held]
        runs = (self.base, self.source)
        plain = all(r.noise is None and len(r.ids) == self.length for r in runs) and not here
        if plain:  # one pass of two rows
            logits, both = capture(self.resolver, runs, there, self._caches, every)
            self._base_logits, self._source_logits = logits[:1], logits[1:]
            axis = {site.name: time_axis(self.resolver, site) - 1 for site in there}
            held, sources = {}, {name: mx.take(x, mx.array([1]), axis[name]) for name, x in both.items()}
        else:
            alone = self.held is not self.base
            self._base_logits, held = capture(
                self.resolver, self.base, [] if alone else here, self._caches, every
            )
            if alone:
                _, held = capture(self.resolver, self.held, here)
            self._source_logits, sources = capture(self.resolver, self.source, there, every_position=every)
        self._sources = {False: sources, True: held}
        for cache in self._caches or []:  # caches are allocated in long steps, and with the source's row
            kept = (x[: self.base.rows, :, : self.length] for x in (cache.keys, cache.values))
            cache.keys, cache.values = (mx.contiguous(x) for x in kept)
        keys = [x for cache in self._caches or [] for x in (cache.keys, cache.values)]
        captured = [*held.values(), *sources.values(), *keys]
        mx.eval(captured)
        self._held_bytes = sum(x.nbytes for x in captured)
        return self._base_logits, self._source_logits

    def run(self, measure: Measure, progress: bool | None = None) -> Outcome:
        """Run every cell; `measure(logits [rows, V]) -> [metrics, rows]` is called pass by pass."""
        began = time.perf_counter()
        if self._sources is None:
            self.begin()
        planned, groups = self._cells_run, self._groups(self._cells_run)
        plan = self._plan(planned, groups)
        base_values = measure(self._base_logits)
        values = np.empty((len(base_values), len(self.cells), self.block))
        values[:] = base_values[:, None, np.arange(self.block) % self.base.rows]
        with tqdm(
            total=len(self.cells), unit="cell", disable=None if progress is None else not progress
        ) as bar:
            bar.update(len(self.cells) - len(planned))
            for group in groups:
                group.sort(key=lambda cell: cell.birth)
                rows = measure(self._run_group(group))
                values[:, [c.index for c in group]] = rows.reshape(len(base_values), len(group), self.block)
                bar.update(len(group))
        plan.elapsed = time.perf_counter() - began
        return Outcome(values, base_values, measure(self._source_logits), plan)

    def _run_group(self, group: list[Planned]) -> np.ndarray:
        """Logits `[cells x block, ...]` of one pass, the cells in order of birth; the base rows are checked."""
        if self.engine.name == "loop":
            logits = run_textbook(self.resolver, self.base, self._sources, group[0].patches, self.block)
            return logits if self.every_position else logits[:, -1]
        batch = Batch(
            self.resolver,
            self.base,
            self._sources,
            [(cell.birth, cell.patches) for cell in group],
            self.block,
            self._start(group),
            self._caches,
            self.engine.axes,
            sparse=self.engine.name == "fanout" and self.engine.causal,
            every_position=self.every_position,
        )
        logits = batch.run()
        self._check_base(logits[: self.base.rows])
        return logits[self.base.rows :]

    def _check_base(self, rows: np.ndarray) -> None:
        plain = self._base_logits
        limit = calibration.rounding(self.resolver) * calibration.largest(plain)
        off = calibration.apart(rows, plain)
        if not off <= limit:
            raise EngineError(
                f"the base rows of the {self.engine.name} engine are {off:.3g} away from the plain run's logits, "
                f"more than rounding ({limit:.3g}): nothing was returned; use engine='loop'"
            )
