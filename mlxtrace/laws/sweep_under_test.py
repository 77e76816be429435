"""A small sweep of a model, in any engine: every component at a layer of each kind, and what must come out."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import numpy as np

from ..anatomy.components import HEADED
from ..engine import choice
from ..engine.sweep import Cell, Engine, ModuleResolver, Outcome, Patch, Run, Site, Sweep
from .law import DoesNotApply, Measurement, relative_error

MAIN = ("resid_pre", "attn", "mlp", "resid_post")
CellName = tuple[str, int | str]  # a component or what else is patched, and the layer or the place


class SweepUnderTest:
    """Cells on two prompts that differ from position `first_difference` on.

    layers: those that get cells of the main components; middles: those of them that get cells of every component.
    """

    def __init__(
        self,
        resolver: ModuleResolver,
        prompts: tuple[Sequence[int], Sequence[int]],
        first_difference: int,
        layers: Sequence[int],
        middles: Iterable[int],
    ):
        self.resolver, self.first_difference = resolver, first_difference
        self.base, self.source = (Run(tuple(ids)) for ids in prompts)
        self.layers, self.middles = layers, set(middles)
        self.plain_loop = Engine("loop", causal=False)

    @functools.cached_property
    def probe(self) -> choice.TrialSweep:
        """What the choice of an engine tried on this model."""
        return choice.trial_sweep(self.resolver)

    @property
    def chosen(self) -> Engine:
        """The engine that this model takes."""
        return choice.choose(self.resolver)

    def engine(self, name: str) -> Engine:
        """An engine by name, prefixes not shared."""
        return Engine(name, False, self.probe.causal, self.probe.axes if name == "fanout" else {})

    @functools.cached_property
    def cells(self) -> dict[CellName, Cell]:
        """Every component at a layer of each kind, the main ones at a few more; all heads and the mixers' outputs;
        places that cannot matter.
        """
        cells: dict[CellName, Cell] = {}
        for layer in self.layers:
            cells |= self._single_components(layer)
            cells |= self._all_heads(layer)
        cells |= self._before_the_difference()
        windows = [c.patches[0] for (name, _), c in cells.items() if name in ("attn", "mlp")]
        if windows:
            cells["window", 0] = Cell(tuple(windows))
        return cells

    def _single_components(self, layer: int) -> dict[CellName, Cell]:
        cells: dict[CellName, Cell] = {}
        for site in self.resolver.table.values():
            if site.layer == layer and (layer in self.middles or site.component in MAIN):
                heads = (0,) if site.component in HEADED else None
                cells[str(site.component), layer] = _cell(site, (3, 6), heads)
        return cells

    def _all_heads(self, layer: int) -> dict[CellName, Cell]:
        head = self.resolver.table.get(f"layers.{layer}.head")
        if layer not in self.middles or head is None:
            return {}
        after = tuple(range(self.first_difference, len(self.base.ids)))
        return {
            ("all heads", layer): _cell(head, after, tuple(range(head.heads))),
            ("mixer", layer): _cell(self.resolver.table[f"layers.{layer}.attn"], after),
        }

    def _before_the_difference(self) -> dict[CellName, Cell]:
        cells: dict[CellName, Cell] = {}
        for place in ("resid_post", "attn", "mlp"):
            layers = [layer for layer in self.layers if f"layers.{layer}.{place}" in self.resolver.table]
            if layers:
                cells["before", place] = _cell(self.resolver.table[f"layers.{layers[0]}.{place}"], (0, 1))
        return cells

    def logits(self, engine: Engine, share: float | None = None) -> tuple[np.ndarray, Outcome]:
        """Last-position logits `[cells, V]` of all cells by an engine, and all that the sweep returned.

        share: of the memory that it would like to have.
        """
        outcome = self.run(list(self.cells.values()), engine, share=share)
        return outcome.values[:, :, 0].T, outcome

    def run(
        self,
        cells: Sequence[Cell],
        engine: Engine,
        base: Run | None = None,
        source: Run | None = None,
        share: float | None = None,
    ) -> Outcome:
        """A sweep whose metrics are the last position's logits: values `[V, cells, samples]`."""
        base, source = base or self.base, source or self.source
        sweep = Sweep(self.resolver, base, source, list(cells), engine)
        if share is not None:
            sweep = Sweep(self.resolver, base, source, list(cells), engine, int(sweep.plan().bytes * share))
        return sweep.run(lambda logits: logits.T.astype(np.float64), progress=False)

    @functools.cached_property
    def loop(self) -> dict[CellName, np.ndarray]:
        """Last-position logits `[V]` of every cell, each in a traced pass of its own."""
        return dict(zip(self.cells, self.logits(self.plain_loop)[0], strict=True))

    @functools.cached_property
    def fast(self) -> tuple[np.ndarray, Outcome]:
        """The same, by the engine that this model takes."""
        return self.logits(self.chosen)

    def against_the_loop(self, rows: np.ndarray, limit: float) -> Measurement:
        """The largest error of a sweep's rows, and in which cell it is."""
        if not self.cells:
            raise DoesNotApply("this model has no site to patch")
        right = np.stack(list(self.loop.values()))
        errors = [relative_error(a, b) for a, b in zip(rows, right, strict=True)]
        worst = " at layer ".join(map(str, list(self.cells)[int(np.argmax(errors))]))
        return Measurement(max(errors), limit, "" if max(errors) <= limit else f"worst: {worst}")


def _cell(site: Site, at: tuple[int, ...], heads: tuple[int, ...] | None = None) -> Cell:
    return Cell((Patch(site, at, at, heads),))
