"""The engine: plan the cells of an experiment, run them in as few forward passes as memory allows.

    outcome = sweep(resolver, base, source, cells, measure)

`batch` says how one pass works. Here the cells are planned: null cells are not run, every cell gets the layer
at which it is born and the first position that it can change, cells are grouped into passes, and afterwards each
pass is checked: planned taps fired, and the base rows agree with the plain run.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import make_prompt_cache
from tqdm import tqdm

from ..anatomy.attention import INTERNALS
from ..anatomy.resolver import ModuleResolver, Site
from ..errors import EngineError, InputError
from . import calibration
from .batch import FLAT, Batch
from .loop import run_textbook
from .runs import Cell, Keep, Patch, Run, capture, norm_input

# A pass costs its weights' traffic whatever its rows: as much as this many tokens, per layer.
PASS_TOKENS = 48
# Of a token's work in a layer, what is left when projections and MLP skip it: norms, attention, sums.
DENSE_SHARE = 0.15
# Metrics work in float64 on copies of their own: bytes per logit, and the part of the memory that they may take.
METRIC_BYTES, METRIC_SHARE = 32, 8


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


@dataclass(frozen=True)
class Part:
    """Cells whose source activations are held at the same time, as passes; and the most bytes that they take.

    together: base and source are run as one batch. eager: computed layer by layer, because memory is short.
    """

    groups: list[list[Planned]]
    bytes: int
    prefix: bool
    together: bool = False
    eager: bool = True

    @property
    def cells(self) -> list[Planned]:
        return [cell for group in self.groups for cell in group]


class Sweep:
    """One experiment on one model: `plan` says what would run, `run` runs it.

    Args:
        base: the run that is patched. source: the run that the activations come from.
        cells: what is patched, cell by cell.
        engine: how (see `engines.choose`). max_memory: bytes beside the weights, captures
            included; None: a quarter of what is free.
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
        self._parts: list[Part] | None = None
        self._held_part: Part | None = None  # whose sources are held
        self._placed: tuple[Part, dict] | None = (
            None  # where that part's source positions are among those kept
        )

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

    def _start(self, group: list[Planned], prefix: bool) -> int:
        """The first position that a pass runs; inside attention, keys must count from the prompt's start."""
        if self.every_position or any(p.site.side in INTERNALS for c in group for p in c.patches):
            return 0
        return min(c.start for c in group) if prefix else 0

    def fit(self) -> list[Part]:
        """The cells that are run, in parts that fit the memory; InputError when none do, before anything is run."""
        planned = self._planned()
        needs = []
        for prefix in dict.fromkeys((self.engine.name == "fanout" and self.engine.prefix, False)):
            room = Room(self, planned, prefix)
            if room.whole is not None:
                return [room.whole]
            if room.least <= self.max_memory:
                return room.parts()
            needs.append(room.least)
        raise InputError(
            f"max_memory is {self.max_memory} bytes, but a single cell needs about {min(needs)}: "
            f"allow at least that, use a shorter prompt or fewer noise samples"
        )

    def plan(self) -> Plan:
        """What would run, without running it (the probes that measure the model are run)."""
        return self._plan(self.fit())

    def _plan(self, parts: list[Part]) -> Plan:
        groups = [group for part in parts for group in part.groups]
        starts = [self._start(group, part.prefix) for part in parts for group in part.groups]
        once, per_token = calibration.timing(self.resolver)
        tokens = 0.0
        for group, start in zip(groups, starts, strict=True):
            depth = sum(self.resolver.n_layers - max(c.birth, 0) for c in group) / self.resolver.n_layers
            tokens += (self.length - start) * (depth * self.block + self.base.rows)
        tokens += (len(parts) - 1) * self.length * self.source.rows
        loop, ran = self.engine.name == "loop", sum(len(group) for group in groups)
        return Plan(
            engine=self.engine.name,
            cells=len(self.cells),
            null_cells=len(self.cells) - ran,
            rows=sum(len(g) * self.block + (0 if loop else self.base.rows) for g in groups),
            passes=len(groups),
            bytes=max(part.bytes for part in parts),
            seconds=once * (len(groups) + len(parts) + 1) + per_token * tokens,
            prefix=any(starts),
            why=self.engine.why,
            starts=sorted(set(starts)),
        )

    # ---- running

    def begin(self) -> tuple[np.ndarray, np.ndarray]:
        """Run base and source plainly and keep what the patches need; both runs' logits, as `measure` gets them."""
        self._parts = self.fit()
        first = self._parts[0]
        self._caches = self._new_caches() if first.prefix else None
        options = {"every_position": self.every_position, "eager": first.eager}
        if first.together:  # one pass of two rows
            sites, keep = self._wanted(first, False, row=1)
            logits, sources = capture(
                self.resolver, (self.base, self.source), sites, self._caches, keep=keep, **options
            )
            self._base_logits, self._source_logits = logits[:1], logits[1:]
            self._sources, self._held_part = {False: sources, True: {}}, first
        else:
            self._base_logits, _ = capture(self.resolver, self.base, [], self._caches, **options)
            sites, keep = self._wanted(first, False)
            self._source_logits, sources = capture(self.resolver, self.source, sites, keep=keep, **options)
            self._sources, self._held_part = {False: sources, True: self._held_values(first)}, first
        for cache in self._caches or []:  # with the source's row
            kept = (x[: self.base.rows, :, : self.length] for x in (cache.keys, cache.values))
            cache.keys, cache.values = (mx.contiguous(x) for x in kept)
            mx.eval(cache.keys, cache.values)
        return self._base_logits, self._source_logits

    def _new_caches(self) -> list:
        caches = make_prompt_cache(self.resolver.net)
        for cache in caches:
            cache.step = self.length  # otherwise they grow in steps of 256 tokens
        return caches

    def _wanted(self, part: Part, held: bool, row: int | None = None) -> tuple[list[Site], dict[str, Keep]]:
        """The sites whose activations a part needs, and what of them."""
        sites, at = sources_of(part.cells)[held]
        return sites, {name: Keep(row, tuple(sorted(found))) for name, found in at.items()}

    def _held_values(self, part: Part) -> dict[str, mx.array]:
        """What held patches write: activations of the base run, or of the run that was named for it."""
        sites, keep = self._wanted(part, True)
        if not sites:
            return {}
        return capture(self.resolver, self.held, sites, keep=keep, logits=False, eager=part.eager)[1]

    def _hold(self, part: Part) -> None:
        """Have the sources of this part, and of no other, in memory."""
        if self._held_part is part:
            return
        self._sources = None
        sites, keep = self._wanted(part, False)
        sources = {}
        if sites:
            _, sources = capture(self.resolver, self.source, sites, keep=keep, logits=False, eager=part.eager)
        self._sources, self._held_part = {False: sources, True: self._held_values(part)}, part

    def run(self, measure: Measure, progress: bool | None = None) -> Outcome:
        """Run every cell; `measure(logits [rows, V]) -> [metrics, rows]` is called pass by pass, or in smaller parts.

        The activations that it needed are let go at the end.
        """
        began = time.perf_counter()
        if self._parts is None:
            self.begin()
        plan = self._plan(self._parts)
        base_values = measure(self._base_logits)
        values = np.empty((len(base_values), len(self.cells), self.block))
        values[:] = base_values[:, None, np.arange(self.block) % self.base.rows]
        with tqdm(
            total=len(self.cells), unit="cell", disable=None if progress is None else not progress
        ) as bar:
            bar.update(plan.null_cells)
            for part in self._parts:
                self._hold(part)
                for group in part.groups:
                    group.sort(key=lambda cell: cell.birth)
                    rows = self._measured(measure, self._run_group(group, part))
                    values[:, [c.index for c in group]] = rows.reshape(
                        len(base_values), len(group), self.block
                    )
                    bar.update(len(group))
        source_values = measure(self._source_logits)
        self._parts = self._held_part = self._sources = self._caches = None
        plan.elapsed = time.perf_counter() - began
        return Outcome(values, base_values, source_values, plan)

    def _measured(self, measure: Measure, logits: np.ndarray) -> np.ndarray:
        """The metrics of a pass's rows, some rows at a time where float64 copies of all would be large."""
        step = max(1, self.max_memory // METRIC_SHARE // (METRIC_BYTES * logits[0].size))
        if len(logits) <= step:
            return measure(logits)
        return np.concatenate([measure(logits[i : i + step]) for i in range(0, len(logits), step)], axis=1)

    def _run_group(self, group: list[Planned], part: Part) -> np.ndarray:
        """Logits `[cells x block, ...]` of one pass, the cells in order of birth; the base rows are checked."""
        patches = [self._from_kept(cell.patches, part) for cell in group]
        if self.engine.name == "loop":
            logits = run_textbook(self.resolver, self.base, self._sources, patches[0], self.block)
            return logits if self.every_position else logits[:, -1]
        start = self._start(group, part.prefix)
        batch = Batch(
            self.resolver,
            self.base,
            self._sources,
            [(cell.birth, found) for cell, found in zip(group, patches, strict=True)],
            self.block,
            start,
            self._caches if part.prefix else None,
            self.engine.axes,
            sparse=self.engine.name == "fanout" and self.engine.causal,
            every_position=self.every_position,
            eager=part.eager,
        )
        logits = batch.run()
        self._check_base(logits[: self.base.rows])
        return logits[self.base.rows :]

    def _from_kept(self, patches: Sequence[Patch], part: Part) -> list[Patch]:
        """The patches, their source positions counted among those that were kept."""
        found = []
        for patch in patches:
            at = self._places(part, patch.held, patch.site.name)
            found.append(replace(patch, source_at=tuple(at[q] for q in patch.source_at)))
        return found

    def _places(self, part: Part, held: bool, name: str) -> dict[int, int]:
        if self._placed is None or self._placed[0] is not part:
            self._placed = (
                part,
                {
                    (h, n): {q: i for i, q in enumerate(sorted(at))}
                    for h, (_, sites) in sources_of(part.cells).items()
                    for n, at in sites.items()
                },
            )
        return self._placed[1][held, name]

    def _check_base(self, rows: np.ndarray) -> None:
        plain = self._base_logits
        limit = calibration.rounding(self.resolver) * calibration.largest(plain)
        off = calibration.apart(rows, plain)
        if not off <= limit:
            raise EngineError(
                f"the base rows of the {self.engine.name} engine are {off:.3g} away from the plain run's logits, "
                f"more than rounding ({limit:.3g}): nothing was returned; use engine='loop'"
            )


def sources_of(cells: Iterable[Planned]) -> dict[bool, tuple[list[Site], dict[str, set[int]]]]:
    """The sites that cells read, and the positions that they read there: of the source, and (True) of held values."""
    found: dict[bool, tuple[list[Site], dict[str, set[int]]]] = {False: ([], {}), True: ([], {})}
    for cell in cells:
        for patch in cell.patches:
            sites, at = found[patch.held]
            if patch.site.name not in at:
                sites.append(patch.site)
                at[patch.site.name] = set()
            at[patch.site.name].update(patch.source_at)
    return found


class Room:
    """What the cells of a sweep take in memory, all at once, one at a time, or in parts.

    whole: all of them as one part, when that fits well. least: the smallest `max_memory` under which they run.
    """

    def __init__(self, sweep: Sweep, planned: list[Planned], prefix: bool):
        self.sweep, self.planned, self.prefix = sweep, planned, prefix
        self.resolver, self.base, self.source = sweep.resolver, sweep.base, sweep.source
        self.length, self.allowed = sweep.length, sweep.max_memory
        self.read = self.length if sweep.every_position or sweep.engine.name == "loop" else 1
        info = self.resolver.structure
        kept = self.base.rows + self.source.rows
        self.always = 4 * kept * info.vocab_size * (self.length if sweep.every_position else 1)
        if prefix:
            self.always += self.base.rows * calibration.cache_bytes(self.resolver, self.length)
        self.runs = max(self._plain(self.base, [], 1), self._plain(self.source, [], 1))

    # ---- bytes

    def _plain(self, run: Run, sites: Sequence[Site], logits: int) -> int:
        """A plain run's own peak, some of its sites looked at."""
        read = len(run.ids) if self.sweep.every_position else 1
        length = len(run.ids)
        return calibration.pass_bytes(self.resolver, run.rows, length, length, sites, read * logits)

    def held(self, cells: Sequence[Planned]) -> int:
        """The source activations of some cells."""
        total = 0
        for held, (sites, at) in sources_of(cells).items():
            run = self.sweep.held if held else self.source
            total += sum(
                run.rows * calibration.site_bytes(self.resolver, site, len(at[site.name]), len(run.ids))
                for site in sites
            )
        return total

    def captured(self, cells: Sequence[Planned]) -> int:
        """The peak of capturing what some cells need, beside what is held afterwards."""
        peaks = [0]
        for held, (sites, _) in sources_of(cells).items():
            if sites:
                peaks.append(self._plain(self.sweep.held if held else self.source, sites, 0))
        return max(peaks)

    def group(self, cells: Sequence[Planned]) -> int:
        """The peak of one pass over some cells, beside the sources."""
        sites = {p.site for c in cells for p in c.patches}
        loop = self.sweep.engine.name == "loop"
        rows = self.sweep.block * len(cells) + (0 if loop else self.base.rows)
        ran = self.length - self.sweep._start(cells, self.prefix)
        need = calibration.pass_bytes(self.resolver, rows, ran, self.length, sites, self.read)
        return need + METRIC_BYTES * self.resolver.structure.vocab_size * (
            self.length if self.sweep.every_position else 1
        )

    # ---- parts

    @functools.cached_property
    def whole(self) -> Part | None:
        """All cells as one part, when their sources leave enough for the passes; None when they do not."""
        held = self.always + self.held(self.planned)
        if held > self.allowed // 2:
            return None
        groups = self._groups(self.planned, self.allowed - held)
        passes = None if groups is None else max((self.group(g) for g in groups), default=0)
        alone = max(self.runs, self.captured(self.planned))
        if passes is None or held + max(alone, passes) > self.allowed:
            return None
        both = self._both()
        together = both is not None and both <= self.allowed
        need = max(held + passes, both if together else held + alone)
        return Part(groups, need, self.prefix, together, eager=2 * need > self.allowed)

    def _both(self) -> int | None:
        """The peak of base and source as one batch that keeps both rows until its end; None when they cannot be."""
        cells = sources_of(self.planned)
        runs = (self.base, self.source)
        if any(r.noise is not None or len(r.ids) != self.length for r in runs) or cells[True][0]:
            return None
        sites = cells[False][0]
        kept = sum(calibration.site_bytes(self.resolver, s, self.length, self.length) for s in sites)
        read = self.length if self.sweep.every_position else 1
        cost = calibration.pass_bytes(self.resolver, 2, self.length, self.length, sites, read)
        return 2 * self.always + 3 * kept + cost

    @functools.cached_property
    def least(self) -> int:
        """Bytes with which every cell can be run by itself."""
        alone: dict[tuple, int] = {}
        for cell in self.planned:
            shape = tuple((p.site, p.held, len(p.at)) for p in cell.patches), cell.start
            if shape not in alone:
                peak = max(self.captured([cell]), self.group([cell]))
                alone[shape] = self.always + self.held([cell]) + peak
        return max([self.always + self.runs, *alone.values()])

    def parts(self) -> list[Part]:
        """The cells, layer by layer, cut where their sources take half of what the rest leaves."""
        parts: list[list[Planned]] = []
        for cell in sorted(self.planned, key=lambda c: (c.birth, [p.site.name for p in c.patches], c.start)):
            if not parts or not self._joins([*parts[-1], cell]):
                parts.append([])
            parts[-1].append(cell)
        return [self._part(cells) for cells in parts] or [Part([], self.always + self.runs, self.prefix)]

    def _joins(self, cells: list[Planned]) -> bool:
        held = self.always + self.held(cells)
        widest = max(self.group([cell]) for cell in cells)
        return held <= self.allowed // 2 and held + max(self.captured(cells), widest) <= self.allowed

    def _part(self, cells: list[Planned]) -> Part:
        held = self.always + self.held(cells)
        groups = self._groups(cells, self.allowed - held)
        peak = max(self.runs, self.captured(cells), *(self.group(g) for g in groups))
        return Part(groups, held + peak, self.prefix)

    def _groups(self, cells: list[Planned], left: int) -> list[list[Planned]] | None:
        """Cells by pass: grouped by first position when a prefix can be shared, then split to fit what is left."""
        if not cells:
            return []
        if self.sweep.engine.name == "loop":
            groups = [[cell] for cell in cells]
            return groups if all(self.group(g) <= left for g in groups) else None
        groups = self.sweep._by_start(cells) if self.prefix else [cells]
        found = [self._fitted(group, left) for group in groups]
        return None if None in found else [part for parts in found for part in parts]

    def _fitted(self, group: list[Planned], left: int) -> list[list[Planned]] | None:
        """Split a pass by positions, then by layers, until it fits; None when a single cell does not."""
        if self.group(group) <= left:
            return [group]
        if len(group) == 1:
            return None
        group = sorted(group, key=lambda c: (c.start, c.birth))
        half = len(group) // 2
        halves = self._fitted(group[:half], left), self._fitted(group[half:], left)
        return None if None in halves else [*halves[0], *halves[1]]
