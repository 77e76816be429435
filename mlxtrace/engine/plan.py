"""A sweep as data: what is asked for, which cells are run, from which layer and position on, and in which passes.

A cell that cannot differ from the base run (a null cell) is not run. Every other one gets its birth, the layer at
which its rows join the batch, and its start, the first position that it can change. Cells that start near each other
share a pass.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..anatomy.components import COMPONENTS
from ..anatomy.resolver import ModuleResolver, Site
from ..notebook import Displayed
from .runs import FLAT, Cell, Patch, Rows, norm_input

PASS_TOKENS = 48  # a pass costs its weights' traffic whatever its rows: as much as so many tokens, per layer
DENSE_SHARE = 0.15  # of a token's work in a layer, what is done even where it cannot differ (see `Batch`)
JOINT_SHARE = 0.4  # the same with rows of several prompts, whose prefixes are not shared by all


@dataclass(frozen=True)
class Engine:
    """How a model is swept: the engine, whether prefixes are shared, and what the trial sweep found.

    causal: no position sees a later one. axes: see `differences.side_axes`. why: one phrase for the plan.
    merges: whether rows attend to a prefix of so many tokens once, before so many that are run (see `batch.Prefix`).
    """

    name: str
    prefix: bool = False
    causal: bool = True
    axes: dict[tuple[str, int], dict[tuple, int]] = field(default_factory=dict)
    why: str = ""
    merges: Callable[[int, int], bool] = field(default=lambda shared, ran: False, compare=False, repr=False)


@dataclass
class Plan(Displayed):
    """What a sweep runs, and after it what it took.

    Attributes:
        engine: "fanout", "flat" or "loop". why: a phrase on why it is this one. cells: asked for.
        null_cells: of these not run because they cannot differ from the base run. passes: how many.
        rows: batch rows of all passes, base rows included. prefix, starts: whether passes begin later, and where.
        bytes: estimated peak of arrays in use, beside the weights. What MLX keeps of freed ones for later (on a CPU up
            to 32 MiB, on a GPU as its cache limit says), and what the C library keeps, is not in it.
        seconds: from timed small passes, to a factor of 2 or a few milliseconds. elapsed: measured; None before it ran.
        once: seconds that checking and timing this model took, in this process; not part of both, as plain runs are.
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
    once: float = field(default=0.0, compare=False)

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def __str__(self) -> str:
        took = f"{self.elapsed:.2f} s" if self.elapsed is not None else f"about {self.seconds:.2g} s"
        if self.once > 0.2 * (self.seconds if self.elapsed is None else self.elapsed):
            took += f", and {self.once:.2g} s once to check and time this model"
        few = map(str, self.starts if len(self.starts) < 13 else [*self.starts[:3], "...", self.starts[-1]])
        starts = f", from positions {', '.join(few)}"
        lines = [
            f"engine      {self.engine}" + (f" ({self.why})" if self.why else ""),
            f"cells       {self.cells}, of which {self.null_cells} cannot differ from the base run and are not run",
            f"passes      {self.passes}, {self.rows} rows in all{starts if self.prefix else ''}",
            f"memory      about {self.bytes / 1e6:.0f} MB beside the weights",
            f"time        {took}",
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class PlannedCell:
    """A cell that is run: where it stands in the caller's list, its birth, first position, patches and prompt."""

    index: int
    birth: int
    start: int
    patches: tuple[Patch, ...]
    prompt: int = 0


@dataclass
class Reads:
    """What some cells take from one site of a run: the positions whose activations they write."""

    site: Site
    positions: set[int] = field(default_factory=set)


def reads_of(cells: Iterable[PlannedCell]) -> dict[bool, dict[str, Reads]]:
    """What cells take, by site name: from the source run (False), and from the fixed run (True)."""
    found: dict[bool, dict[str, Reads]] = {False: {}, True: {}}
    for cell in cells:
        for patch in cell.patches:
            reads = found[patch.fixed].setdefault(patch.site.name, Reads(patch.site))
            reads.positions.update(patch.source_at)
    return found


@dataclass(frozen=True)
class Part:
    """Cells whose source activations are in memory at the same time, as passes; and the most bytes that they take.

    together: base and source are run as one batch. eager: computed layer by layer, because memory is short.
    """

    groups: list[list[PlannedCell]]
    bytes: int
    prefix: bool
    together: bool = False
    eager: bool = True

    @functools.cached_property
    def reads(self) -> dict[bool, dict[str, Reads]]:
        """What its cells take from which run; see `reads_of`."""
        return reads_of([cell for group in self.groups for cell in group])

    @functools.cached_property
    def places(self) -> dict[tuple[bool, str], dict[int, int]]:
        """By run and site name: where a position's activation is among those that are kept."""
        places = {}
        for fixed, by_name in self.reads.items():
            for name, reads in by_name.items():
                places[fixed, name] = {q: i for i, q in enumerate(sorted(reads.positions))}
        return places

    def kept(self, patches: Iterable[Patch]) -> list[Patch]:
        """Patches, their source positions counted among those that are kept."""
        found = []
        for patch in patches:
            places = self.places[patch.fixed, patch.site.name]
            found.append(replace(patch, source_at=tuple(places[q] for q in patch.source_at)))
        return found


@dataclass(frozen=True)
class Request:
    """What a sweep is asked for, and what follows for each cell from where it is patched.

    base, source, fixed: one run each, or as many of each as there are prompts.
    fixed: the run that fixed patches take their values from. every_position: the logits of all positions are wanted,
    not those of the `last` ones. max_memory: bytes beside the weights. other: of the model that the source runs in,
    where it is another one.
    """

    resolver: ModuleResolver
    base: Rows
    source: Rows
    fixed: Rows
    cells: list[Cell]
    engine: Engine
    every_position: bool
    max_memory: int
    last: int = 1
    other: ModuleResolver | None = None

    @property
    def block(self) -> int:
        """Rows per cell."""
        return max(self.base.each, self.source.each)

    @property
    def length(self) -> int:
        return self.base.length

    @property
    def read(self) -> int:
        """How many positions of a pass the logits are wanted of."""
        return self.length if self.every_position else self.last

    @functools.cached_property
    def first_differences(self) -> list[int]:
        """By prompt, the first position at which its two runs can differ at all: in two models, anywhere."""
        found = []
        for a, b in zip(self.base.members, self.source.members, strict=True):
            different = [i for i, (x, y) in enumerate(zip(a.ids, b.ids, strict=False)) if x != y]
            candidates = [*different[:1], *a.noised, *b.noised, min(a.length, b.length)]
            found.append(min(candidates) if self.engine.causal and not self.other else 0)
        return found

    # ---- cells

    def planned(self) -> list[PlannedCell]:
        """The cells that can differ from the base run, with null positions dropped and births found."""
        planned, where = [], functools.cache(self._where)
        for index, cell in enumerate(self.cells):
            first = self.first_differences[cell.prompt]
            found = [(p, where(p.site, p.at, p.source_at, p.fixed, first)) for p in cell.patches]
            patches = tuple(Patch(*at, p.heads, p.fixed) for p, at in found if at is not None)
            if patches:
                birth = min(self._birth(patch.site) for patch in patches)
                start = min(min(patch.at) for patch in patches)
                planned.append(PlannedCell(index, birth, start, patches, cell.prompt))
        return planned

    def _where(
        self, site: Site, at: tuple[int, ...], source_at: tuple[int, ...], fixed: bool, first_difference: int
    ) -> tuple[Site, tuple[int, ...], tuple[int, ...]] | None:
        """Where a patch can matter, moved up to the next layer's input if it may be; None: nowhere."""
        pairs = list(zip(at, source_at, strict=True))
        if not fixed:
            pairs = [(p, q) for p, q in pairs if p >= first_difference or p != q]
        if self._last_only(site):
            pairs = [(p, q) for p, q in pairs if p >= self.length - self.read]
        if not pairs:
            return None
        at, source_at = zip(*pairs, strict=True)
        return self._moved(site), at, source_at

    def _last_only(self, site: Site) -> bool:
        """Whether nothing but the last positions of a site, those that are read, reaches the logits that are wanted."""
        info = self.resolver.structure
        written_last = (
            site.component is not None
            and COMPONENTS[site.component].stage == "output"
            and site.layer == len(info.layers) - 1
        )
        return written_last and bool(info.norm) and self.engine.causal and not self.every_position

    def _moved(self, site: Site) -> Site:
        """A layer's output is the next layer's input: patched there, its row is born one layer later."""
        if self.engine.name != "fanout" or site.component != "resid_post" or site.layer is None:
            return site
        models = [self.resolver, self.other or self.resolver]
        if site.layer < self.resolver.n_layers - 1:
            chained = all(model.layer(site.layer).chained for model in models)
            return self.resolver.site("resid_pre", site.layer + 1) if chained else site
        return norm_input(self.resolver) if all(model.structure.norm for model in models) else site

    def _birth(self, site: Site) -> int:
        if self.engine.name != "fanout":
            return FLAT
        if site.layer is None:
            return self.resolver.n_layers if site.name == "norm.input" else FLAT
        return site.layer

    # ---- passes

    def by_start(self, planned: list[PlannedCell]) -> list[list[PlannedCell]]:
        """Cut the cells, sorted by first position, where it is cheapest: fewer passes or fewer positions."""
        at: dict[int, list[PlannedCell]] = {start: [] for start in sorted({cell.start for cell in planned})}
        for cell in planned:
            at[cell.start].append(cell)
        starts, n_layers = list(at), self.resolver.n_layers
        work = [sum(n_layers - c.birth for c in cells) * self.block for cells in at.values()]
        sparse = all(layer.acts for layer in self.resolver.structure.layers)
        joint = len(self.base.members) > 1
        share = max(DENSE_SHARE if sparse else 1.0, JOINT_SHARE * joint)
        of_pass, of_base = n_layers * PASS_TOKENS * (4 if joint else 1), n_layers * self.base.each
        rows, left, last = np.array(work), self.length - np.array(starts), {}
        best, cuts = np.zeros(len(starts) + 1), [0]  # the least cost of the first so many, the last cut
        for end, start in enumerate(starts, 1):
            last.update({cell.prompt: end - 1 for cell in at[start]})
            prompts = np.bincount(list(last.values()), minlength=end)
            cells, prompts = (x[::-1].cumsum()[::-1] for x in (rows[:end], prompts))
            costs = best[:end] + of_pass + (cells * share + prompts * of_base) * left[:end]
            cuts.append(int(costs.argmin()))
            best[end] = costs.min()
        groups = []
        while starts:
            groups.insert(0, [cell for s in starts[cuts[len(starts)] :] for cell in at[s]])
            del starts[cuts[len(starts)] :]
        return groups

    def base_rows(self, group: Iterable[PlannedCell]) -> int:
        """The base rows of a pass over some cells: those of the prompts that they are cells of."""
        return max(1, len({cell.prompt for cell in group})) * self.base.each

    def rows(self, group: Sequence[PlannedCell]) -> int:
        """All rows of a pass over some cells."""
        return self.block * len(group) + (0 if self.engine.name == "loop" else self.base_rows(group))

    def start_of(self, group: Sequence[PlannedCell], prefix: bool) -> int:
        """The first position that a pass runs; inside attention, keys must count from the prompt's start."""
        sides = {patch.site.side for cell in group for patch in cell.patches}
        if self.every_position or not prefix or sides - {"input", "output"}:
            return 0
        return min(self.length - self.read, *(cell.start for cell in group))

    def merged(self, start: int) -> bool:
        """Whether the rows of a pass attend to what is before `start` once for all of them."""
        return start > 0 and self.engine.merges(start, self.length - start)
