"""All the cells that a screen ranks, as arrays: where each is, what gradients say of it, and the few that are run.

    cells = ScreenCells(model, made, grids, direction)
    scores = cells.estimates(pair, attribution)       # [cells], of one pair; NaN where it lacks the region
    jobs = cells.jobs(chosen)                         # the sweep of those cells alone, for each pair
    effects = cells.effects(chosen, found)            # [pairs, chosen]

Single neurons are hundreds of thousands, so a cell is an object only once it is chosen to be run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine.attribution import Attribution, attribute
from ..errors import UnsupportedError as UnsupportedError
from .grid import Grid, Patch
from .sweeps import Cell, Job, sweep_of
from .whole_runs import WholeRuns


@dataclass(frozen=True)
class Block:
    """The cells of a component at a layer: `[places, units]`, from `first` on in the order of all cells.

    grids: of each pair. labels: the places of all pairs, each once.
    """

    component: str
    layer: int
    grids: list[Grid]
    labels: list[Any]
    first: int

    @property
    def units(self) -> list[tuple[int, ...] | None]:
        """The groups of heads or neurons; None where the site is patched whole."""
        return self.grids[0].units

    @property
    def size(self) -> int:
        return len(self.labels) * len(self.units)


class ScreenCells:
    """The cells of a screen over some pairs: component x layer x place x head or neuron.

    Args:
        model: what is traced.
        made: the pairs that were read.
        grids: for each component and layer the grid of every pair.
        direction: which run is patched.
        asked: of each pair the answers that are scored whole, or None.
    """

    def __init__(
        self, model: Any, made: Any, grids: Sequence[list[Grid]], direction: str, asked: Sequence[Any] = ()
    ):
        self.model, self.made = model, made
        self.roles = [pair.roles(direction) for pair in made.pairs]
        self.asked = list(asked) or [None] * len(made.pairs)
        self.runs = [WholeRuns(*given) for given in zip(self.roles, self.asked, strict=True)]
        self.blocks: list[Block] = []
        self.axis = grids[0][0].places.axis
        for of_pairs in grids:
            (component,), (layer,) = of_pairs[0].components, of_pairs[0].layers
            labels = list(dict.fromkeys(label for grid in of_pairs for label in grid.places.labels))
            self.blocks.append(Block(component, layer, of_pairs, labels, len(self)))

    def __len__(self) -> int:
        return self.blocks[-1].first + self.blocks[-1].size if self.blocks else 0

    # ---- where a cell is

    def place(self, cell: int) -> tuple[Block, int, int]:
        """The block of a cell, and which of its labels and units it is."""
        firsts = [block.first for block in self.blocks]
        block = self.blocks[int(np.searchsorted(firsts, cell, "right")) - 1]
        return (block, *divmod(int(cell) - block.first, len(block.units)))

    def row(self, cell: int, tokens: Sequence[str]) -> dict[str, Any]:
        """Where a cell is, as a row of a table: component, layer, head or neuron, position and token or region."""
        block, label, unit = self.place(cell)
        row: dict[str, Any] = {"component": block.component, "layer": block.layer}
        units = block.units[unit]
        if units is not None:
            row["neuron" if block.component == "neuron" else "head"] = (
                units[0] if len(units) == 1 else list(units)
            )
        if self.axis is not None:
            row[self.axis] = block.labels[label]
        if self.axis == "position":
            row["token"] = tokens[block.labels[label]]
        return row

    # ---- which can differ

    def live(self, pair: int, **how: Any) -> np.ndarray:
        """Which cells `[cells]` a sweep of one pair would run at all: the others cannot differ from the base run."""
        found, cells = np.zeros(len(self), bool), []
        slots = []  # of each cell the block, and the label that it is a part of
        for block in self.blocks:
            grid = block.grids[pair]
            for label, groups in zip(grid.places.labels, grid.places.averaged, strict=True):
                cells += [self._cell(block, pair, group, block.units[0]) for group in groups]
                slots += [(block, block.labels.index(label))] * len(groups)
        runs = self.runs[pair]
        sweep = sweep_of(self.model, runs.bases[0], runs.sources[0], cells, **how, read=runs.read)
        for planned in sweep.request.planned():
            block, label = slots[planned.index]
            begin = block.first + label * len(block.units)
            found[begin : begin + len(block.units)] = True
        return found

    def _cell(self, block: Block, pair: int, group: int, units: tuple[int, ...] | None) -> Cell:
        """A group of positions of a pair and some heads or neurons, as the sweep takes it."""
        grid, roles = block.grids[pair], self.roles[pair]
        positions = grid.places.groups[group]
        at, source_at = (tuple(of[p] for p in positions) for of in (roles.at, roles.source_at))
        return Cell(tuple(Patch(s, at, source_at, units) for s in grid.sites[block.component, block.layer]))

    # ---- what gradients say

    def estimated(
        self,
        pair: int,
        methods: dict[str, str],
        gradients: dict[str, Callable[[Any], Any]],
        max_memory: int | None = None,
    ) -> np.ndarray:
        """The estimated effect of each cell `[cells]` on one pair, mean over samples; NaN where it lacks the region.

        methods: by component. gradients: what each method differentiates, of the last position's logits, in MLX.
        """
        found, by = np.full(len(self), np.nan), {}
        for method in dict.fromkeys(methods.values()):
            blocks = [b for b in self.blocks if methods[b.component] == method]
            by[method] = self._attributed(pair, blocks, gradients[method], method, max_memory)
        for block in self.blocks:
            values = self._estimated(block, pair, by[methods[block.component]])
            of_block = found[block.first : block.first + block.size].reshape(len(block.labels), -1)
            of_block[[block.labels.index(x) for x in block.grids[pair].places.labels]] = values
        return found

    def _attributed(
        self,
        pair: int,
        blocks: list[Block],
        gradient: Callable[[Any], Any],
        method: str,
        max_memory: int | None,
    ) -> Attribution:
        """The estimates of one method at the sites of some blocks."""
        roles, runs = self.roles[pair], self.runs[pair]
        positions = list(roles.at)
        found = attribute(
            self.model.resolver,
            runs.base,
            runs.source,
            [site for block in blocks for sites in block.grids[pair].sites.values() for site in sites],
            [roles.at[p] for p in positions],
            [roles.source_at[p] for p in positions],
            gradient,
            method,
            max_memory,
            runs.read,
        )
        return found.folded(runs.contexts, roles.base.length)

    def _estimated(self, block: Block, pair: int, attribution: Attribution) -> np.ndarray:
        """Of a block's cells on one pair, `[its labels, units]`: sums over what is patched together."""
        grid, at = block.grids[pair], self.roles[pair].at
        places, (site,) = grid.places, grid.sites[block.component, block.layer]

        def together(x: np.ndarray) -> np.ndarray:
            summed = [x[..., [at[p] for p in group], :].sum(-2) for group in places.groups]
            return _by_units(np.stack(summed, -2), block.units)

        plain = {"": together(attribution.plain[site.name])}
        drops = {"": together(attribution.drops[site.name])} if attribution.drops else {}
        signed = Attribution(plain, attribution.base, drops).maps[""]
        return places.averages(signed.mean(0), 0)

    # ---- the few that are run

    def jobs(self, chosen: Sequence[int]) -> list[Job]:
        """The sweep of each pair over the chosen cells that it has."""
        found = []
        for pair, roles in enumerate(self.roles):
            cells = [self._cell(b, pair, group, units) for b, group, units in self._parts(pair, chosen)]
            found.append(Job(roles.base, roles.source, cells, self.runs[pair].job.contexts))
        return found

    def _parts(self, pair: int, chosen: Sequence[int]) -> list[tuple[Block, int, tuple[int, ...] | None]]:
        """Of each chosen cell the groups of positions that are patched apart and averaged."""
        found = []
        for block, label, unit in map(self.place, chosen):
            found += [(block, group, block.units[unit]) for group in _groups(block, pair, label)]
        return found

    def effects(self, chosen: Sequence[int], values: Sequence[np.ndarray]) -> np.ndarray:
        """What patching did `[pairs, chosen]`, from a value for each cell of `jobs`; NaN where a pair lacks it."""
        found = np.full((len(self.roles), len(chosen)), np.nan)
        for pair, of_pair in enumerate(values):
            sizes = [len(_groups(block, pair, label)) for block, label, _ in map(self.place, chosen)]
            ends = np.cumsum(sizes)
            for i, (size, end) in enumerate(zip(sizes, ends, strict=True)):
                if size:
                    found[pair, i] = of_pair[end - size : end].mean()
        return found


def _groups(block: Block, pair: int, label: int) -> list[int]:
    """The groups of positions that a label is, in one pair; none where it lacks the region."""
    places = block.grids[pair].places
    if block.labels[label] not in places.labels:
        return []
    return places.averaged[places.labels.index(block.labels[label])]


def _by_units(values: np.ndarray, units: Sequence[tuple[int, ...] | None]) -> np.ndarray:
    """Values by head or neuron, on the last axis, as those of groups of them."""
    groups = [group for group in units if group is not None]
    if not groups:
        return values.sum(-1, keepdims=True)
    if all(len(group) == 1 for group in groups):
        return values[..., [group[0] for group in groups]]
    return np.stack([values[..., list(group)].sum(-1) for group in groups], -1)
