"""How the cells of a sweep fit the memory that is allowed: at once, or in parts, and in which passes."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from ..errors import EngineError, InputError, memory_limit
from . import calibration
from .plan import ModuleResolver, Part, PlannedCell, Reads, Request, Rows, Site, reads_of
from .runs import Keep
from .two_models import site_in

# Metrics work in float64 on copies of their own: bytes per logit.
METRIC_BYTES = 32
# The stream of a pass over several prompts is no larger than this.
FAST_BYTES = 8 << 20


def fit(request: Request) -> list[Part]:
    """The cells that are run, in parts that fit the memory; InputError when none do, before anything is run."""
    planned = request.planned()
    needs = []
    for prefix in dict.fromkeys((request.engine.name == "fanout" and request.engine.prefix, False)):
        memory = Memory(request, planned, prefix)
        if memory.whole is not None:
            return [memory.whole]
        if memory.least <= request.max_memory:
            return memory.parts()
        needs.append(memory.least)
    raise InputError(
        f"{memory_limit(request.max_memory)}, but a single cell needs about {min(needs)}: "
        f"allow at least that, use a shorter prompt or fewer noise samples"
    )


class Memory:
    """What the cells of a sweep take in memory: all at once, one at a time, or in parts.

    constant: bytes that are taken all the time (logits of both runs, and the prefix's keys and values). plain: the
    peak of a plain run beside them.
    """

    def __init__(self, request: Request, planned: list[PlannedCell], prefix: bool):
        self.request, self.planned, self.prefix = request, planned, prefix
        self.resolver, self.base, self.source = request.resolver, request.base, request.source
        self.length, self.allowed = request.length, request.max_memory
        self.loop = request.engine.name == "loop"
        rows, vocab_size = self.base.rows + self.source.rows, self.resolver.structure.vocab_size
        self.constant = 4 * rows * vocab_size * request.read
        if prefix:
            self.constant += self.base.rows * calibration.cache_bytes(self.resolver, self.length)
        models = (self.resolver, request.other or self.resolver)
        runs = zip(models, (self.base, self.source), strict=True)
        self.plain = max(self._plain_peak(*run, {}, logits=True) for run in runs)

    # ---- bytes

    def _runs(self, cells: Sequence[PlannedCell]) -> list[tuple[ModuleResolver, Rows, dict[str, Reads]]]:
        """The source and the fixed run, each with its model and with what some cells take from it."""
        reads, other = reads_of(cells), self.request.other
        if other:
            found = {name: Reads(site_in(other, x.site), x.positions) for name, x in reads[False].items()}
            reads = {**reads, False: found}
        fixed = (self.resolver, self.request.fixed, reads[True])
        return [(other or self.resolver, self.source, reads[False]), fixed]

    def _plain_peak(self, model: ModuleResolver, run: Rows, reads: dict[str, Reads], logits: bool) -> int:
        """A plain run's own peak, some of its sites looked at."""
        length = run.length
        read = (length if self.request.every_position else self.request.read) if logits else 0
        sites = [found.site for found in reads.values()]
        return calibration.pass_bytes(model, run.rows, length, length, sites, read)

    def sources(self, cells: Sequence[PlannedCell]) -> int:
        """The activations that some cells take from the source and the fixed run."""
        total = 0
        for model, run, reads in self._runs(cells):
            for found in reads.values():
                positions, length = len(found.positions), run.length
                total += run.rows * calibration.site_bytes(model, found.site, positions, length)
        return total

    def capturing(self, cells: Sequence[PlannedCell]) -> int:
        """The peak of capturing what some cells need, beside what is kept of it."""
        peaks = [self._plain_peak(*run, logits=False) for run in self._runs(cells) if run[-1]]
        return max(peaks, default=0)

    def one_pass(self, cells: Sequence[PlannedCell]) -> int:
        """The peak of one pass over some cells, beside the sources."""
        sites = {patch.site for cell in cells for patch in cell.patches}
        rows = self.request.rows(cells)
        start = self.request.start_of(cells, self.prefix)
        read, merged = self.length if self.loop else self.request.read, self.request.merged(start)
        need = calibration.pass_bytes(
            self.resolver, rows, self.length - start, self.length, sites, read, merged
        )
        return need + METRIC_BYTES * self.resolver.structure.vocab_size * self.request.read

    # ---- parts

    @functools.cached_property
    def whole(self) -> Part | None:
        """All cells as one part, when their sources leave enough for the passes; None when they do not."""
        kept = self.constant + self.sources(self.planned)
        groups = self._groups(self.planned, self.allowed - kept) if kept <= self.allowed // 2 else None
        if groups is None:
            return None
        passes = max((self.one_pass(group) for group in groups), default=0)
        alone = max(self.plain, self.capturing(self.planned))
        if kept + max(alone, passes) > self.allowed:
            return None
        joint = self._joint_peak()
        together = joint is not None and joint <= self.allowed
        need = max(kept + passes, joint if joint is not None and together else kept + alone)
        return Part(groups, need, self.prefix, together, eager=2 * need > self.allowed)

    def _joint_peak(self) -> int | None:
        """The peak of base and source as one batch that keeps both rows until its end; None when they cannot be."""
        (*_, reads), (*_, fixed) = self._runs(self.planned)
        runs = (self.base, self.source)
        if (
            self.request.other
            or any(run.each > 1 or run.noised or run.length != self.length for run in runs)
            or fixed
        ):
            return None
        sites, length = [found.site for found in reads.values()], self.length
        kept = self.base.rows * sum(
            calibration.site_bytes(self.resolver, site, length, length) for site in sites
        )
        cost = calibration.pass_bytes(
            self.resolver, 2 * self.base.rows, length, length, sites, self.request.read
        )
        return 2 * self.constant + 3 * kept + cost

    @functools.cached_property
    def least(self) -> int:
        """Bytes with which every cell can be run by itself."""
        alone: dict[tuple, PlannedCell] = {}  # of cells of one shape, the one that runs the most tokens
        for cell in self.planned:
            shape = tuple((p.site, p.fixed, len(p.at)) for p in cell.patches)
            if shape not in alone or cell.start < alone[shape].start:
                alone[shape] = cell
        needs = [self.constant + self.plain]
        for cell in alone.values():
            peak = max(self.capturing([cell]), self.one_pass([cell]))
            needs.append(self.constant + self.sources([cell]) + peak)
        return max(needs)

    def parts(self) -> list[Part]:
        """The cells, layer by layer, cut where their sources take half of what the rest leaves."""
        parts: list[list[PlannedCell]] = []
        unlike: dict[
            tuple, PlannedCell
        ] = {}  # of the last part, a cell for each place: those of a place share all
        for cell in sorted(self.planned, key=lambda c: (c.birth, [p.site.name for p in c.patches], c.start)):
            place = tuple((p.site, p.fixed, p.at, p.source_at) for p in cell.patches), cell.prompt
            if not parts or (place not in unlike and not self._fits_together([*unlike.values(), cell])):
                parts.append([])
                unlike = {}
            parts[-1].append(cell)
            unlike[place] = cell
        return [self._part(cells) for cells in parts] or [Part([], self.constant + self.plain, self.prefix)]

    def _fits_together(self, cells: list[PlannedCell]) -> bool:
        kept = self.constant + self.sources(cells)
        widest = max(self.one_pass([cell]) for cell in cells)
        return kept <= self.allowed // 2 and kept + max(self.capturing(cells), widest) <= self.allowed

    def _part(self, cells: list[PlannedCell]) -> Part:
        kept = self.constant + self.sources(cells)
        groups = self._groups(cells, self.allowed - kept)
        if groups is None:
            raise EngineError("cells that fit one at a time do not fit the part that they were given")
        peak = max(self.plain, self.capturing(cells), *(self.one_pass(group) for group in groups))
        return Part(groups, kept + peak, self.prefix)

    def _groups(self, cells: list[PlannedCell], left: int) -> list[list[PlannedCell]] | None:
        """Cells by pass: grouped by first position when a prefix can be shared, then split to fit what is left."""
        if not cells:
            return []
        if self.loop:
            groups = [[cell] for cell in cells]
            return groups if all(self.one_pass(group) <= left for group in groups) else None
        fitted: list[list[PlannedCell]] = []
        for group in self.request.by_start(cells) if self.prefix else [cells]:
            passes = self._split(group, left)
            if passes is None:
                return None
            fitted += passes
        return fitted

    def _slow(self, group: Sequence[PlannedCell]) -> bool:
        """Whether a pass over several prompts is so large that halves of it are faster: they stay in the caches."""
        if len({cell.prompt for cell in group}) == 1:
            return False
        tokens = self.request.rows(group) * (self.length - self.request.start_of(group, self.prefix))
        return 4 * tokens * self.resolver.structure.d_model > FAST_BYTES

    def _split(self, group: list[PlannedCell], left: int) -> list[list[PlannedCell]] | None:
        """Split a pass by positions, then by layers, until it fits; None when a single cell does not."""
        small = self.one_pass(group) <= left
        if small and not self._slow(group):
            return [group]
        if len(group) == 1:
            return [group] if small else None
        prompts = len({cell.prompt for cell in group})
        group = sorted(group, key=lambda c: (prompts > 1 and c.prompt, c.start, c.birth))
        half = len(group) // 2
        first = self._split(group[:half], left)
        second = None if first is None else self._split(group[half:], left)
        return None if first is None or second is None else [*first, *second]


def wanted(
    part: Part, fixed: bool, row: tuple[int, ...] | None = None, other: ModuleResolver | None = None
) -> tuple[list[Site], dict[str, Keep]]:
    """The sites whose activations a part needs, in another model perhaps, and what of them."""
    reads = part.reads[fixed]
    keep = {name: Keep(row, tuple(sorted(found.positions))) for name, found in reads.items()}
    return [site_in(other, found.site) if other else found.site for found in reads.values()], keep
