"""Edges and paths as cells: each a row of the base run with a few reads of one or more layers patched.

    sweep = PathSweep(resolver, graph, base, source, at, source_at)      # checks that these are edges of the model
    values = sweep.run([PathCell(sender, receiver, positions), ...], measure).values

A path patch is an ordinary patch of queries, keys, values or an MLP's output; only its value is made here, by running
the receiver's own layer on the edited input. Cells that have a receiver's layer in common share passes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import EngineError, InputError, MlxtraceError, UnsupportedError, memory_limit
from . import calibration
from .choice import choose
from .edge_check import FLAT, Batch, EditedReads, Engine, Patch, check, read_by_logits
from .graph_names import Graph, Read, Receiver, Sender, reaches, receivers, senders
from .live_paths import LivePaths
from .split_reads import Rows, SplitRun
from .sweep import ModuleResolver, Outcome, Plan, Site, allowed_bytes, progress_bar

__all__ = [
    "Graph",
    "PathCell",
    "PathSweep",
    "Receiver",
    "Sender",
    "choose",
    "graph_of",
    "progress_bar",
    "reaches",
    "receivers",
    "senders",
]
Measure = Any  # logits [rows, V], or [rows, read, V] -> [metrics, rows]
MOST_CELLS = 1024  # of one pass
TOGETHER = 64  # edited inputs that a layer is run on at once
graph_of = calibration.per_model(Graph)


@dataclass(frozen=True)
class PathCell:
    """One experiment: the reads of a receiver see what a sender writes in the source run, at some base positions."""

    sender: Sender
    receiver: Receiver
    at: tuple[int, ...]


@dataclass
class _Chunk:
    """Cells of one pass, and for each array of edited reads whose changes its rows are of."""

    cells: list[tuple[int, PathCell]] = field(default_factory=list)
    rows: dict[tuple[str, int], dict[Sender, int]] = field(default_factory=dict)


class PathSweep:
    """The paths of one prompt pair, checked to be paths of this model.

    Args:
        resolver, graph: of the model.
        base, source: the run that is patched, and the run that the senders' contributions come from.
        at, source_at: where contributions are written in the base run, and where they are read in the source run.
        engine: how the model is swept. max_memory: bytes beside the weights; None: a quarter of what is free.
        read: of how many of the last positions what is measured gets logits.

    Raises:
        UnsupportedError: contributions and reads do not add up to what the model does, and how far they are off.
    """

    def __init__(
        self,
        resolver: ModuleResolver,
        graph: Graph,
        base: Rows,
        source: Rows,
        at: Sequence[int],
        source_at: Sequence[int],
        engine: Engine,
        max_memory: int | None = None,
        read: int = 1,
    ):
        if engine.name == "loop":
            raise UnsupportedError(
                f"edges are rows of one pass, and this model takes one row at a time: {engine.why}"
            )
        self.resolver, self.graph, self.engine = resolver, graph, engine
        self.allowed = allowed_bytes(max_memory, resolver.group)
        try:
            self.base, self.source = SplitRun(graph, base, read), SplitRun(graph, source, read)
            self.edited = EditedReads(self.base, self.source, at, source_at, self.allowed // 4)
            check(self.edited, engine)
        except MlxtraceError:
            raise
        except (
            Exception
        ) as error:  # layers that are called in a way that they were not written for may fail in any way
            raise UnsupportedError(
                f"edges of this model cannot be patched: its layers cannot be called again by themselves: {error}"
            ) from error
        self.length, self.read = base.length, read
        self.first = _first_difference(base, source) if engine.causal else 0

    @property
    def normed(self) -> bool:
        """Whether a norm stands between the heads of a layer and the stream."""
        return not all(self.base.heads_apart(n) for n in range(self.graph.n_layers) if self.graph.heads[n])

    # ---- which cells, and in which passes

    def alive(self, cell: PathCell) -> tuple[int, ...]:
        """Where a cell can differ from the base run: nowhere before the runs do, or where no logits can tell."""
        if not reaches(self.graph, cell.sender.written, cell.receiver.reads):
            return ()
        n = self.graph.n_layers - 1
        late = [
            r.kind == "logits" or (self.engine.causal and r.layer == n and r.kind in ("q", "mlp"))
            for r in cell.receiver.reads
        ]
        first = self.length - self.read if all(late) else self.first
        return tuple(p for p in cell.at if p >= first)

    def _chunks(self, cells: list[tuple[int, PathCell]]) -> Iterator[_Chunk]:
        """The cells that are run, those of one layer and one sender beside each other, as many as fit the memory."""
        order = {node: i for i, node in enumerate(self.graph.senders)}

        def place(entry: tuple[int, PathCell]) -> tuple:
            cell = entry[1]
            layer = min(read.layer for read in cell.receiver.reads)
            return layer, order.get(cell.sender.nodes[0], -1), cell.sender.name, entry[0]

        cells = sorted(cells, key=place)
        most = self._most_cells()
        for i in range(0, len(cells), most):
            chunk = _Chunk(cells[i : i + most])
            for _, cell in chunk.cells:
                for read in cell.receiver.reads:
                    rows = chunk.rows.setdefault((read.kind, read.layer), {})
                    rows.setdefault(cell.sender, len(rows))
            yield chunk

    def _bytes(self, cells: int) -> int:
        """What a pass over so many cells takes, their edited reads included."""
        layers, kinds = (0, self.graph.n_layers - 1), ("q", "mlp")
        found = [self._site(Read(kind, layer)) for layer in layers for kind in kinds]
        sites, rows, length = (
            [site for site in found if site is not None],
            (cells + 1) * self.edited.block,
            self.length,
        )
        kept = 3 * max(calibration.site_bytes(self.resolver, site, length, length) for site in sites)
        return rows * kept + calibration.pass_bytes(self.resolver, rows, length, length, sites, self.read)

    def _most_cells(self) -> int:
        """How many cells a pass may have."""
        left = self.allowed // 2
        if self._bytes(1) > left:
            raise InputError(
                f"{memory_limit(self.allowed)}, but a single path needs about {2 * self._bytes(1)}: "
                "allow at least that, or use a shorter prompt or fewer noise samples"
            )
        fewest, most = 1, MOST_CELLS
        while fewest < most:
            middle = (fewest + most + 1) // 2
            fewest, most = (middle, most) if self._bytes(middle) <= left else (fewest, middle - 1)
        return fewest

    def _site(self, read: Read) -> Site | None:
        """Where a read is patched."""
        if read.kind == "logits":
            return read_by_logits(self.resolver)
        there = self.graph.has_mlp[read.layer] if read.kind == "mlp" else self.graph.heads[read.layer]
        return self.resolver.site(read.kind, read.layer) if there else None

    # ---- the passes

    def run(
        self, cells: Sequence[PathCell], measure: Measure, progress: Any = None, live: bool = False
    ) -> Outcome:
        """Run every cell; `measure(logits) -> [metrics, rows]`. The values are `[metric, cell, sample]`.

        live: the reads of a receiver see what those before them change; else each is given the direct path alone.
        """
        began = time.perf_counter()
        samples, runs = np.arange(self.edited.block), (self.base, self.source)
        base, source = (measure(run.logits[samples % len(run.logits)]) for run in runs)
        values = np.repeat(base[:, None], len(cells), axis=1)
        found = [
            (i, PathCell(c.sender, c.receiver, at)) for i, c in enumerate(cells) if (at := self.alive(c))
        ]
        passes = rows = largest = 0
        with progress_bar(len(cells), progress) as bar:
            bar.update(len(cells) - len(found))
            for chunk in self._chunks(found):
                logits = self._live(chunk) if live else self._pass(chunk)
                measured = measure(logits).reshape(len(base), len(chunk.cells), -1)
                values[:, [i for i, _ in chunk.cells]] = measured
                passes, rows = passes + 1, rows + len(logits)
                largest = max(largest, self._bytes(len(chunk.cells)))
                bar.update(len(chunk.cells))
        elapsed = time.perf_counter() - began
        counts = len(cells), len(cells) - len(found), rows, passes, largest
        plan = Plan(self.engine.name, *counts, elapsed, why=self.engine.why, elapsed=elapsed)
        return Outcome(values, base, source, plan)

    def _pass(self, chunk: _Chunk) -> np.ndarray:
        """Logits `[cells * block, ...]` of one pass; its base rows are checked."""
        sources = {}
        for (kind, layer), changed in chunk.rows.items():
            site, edited = self._site(Read(kind, layer)), self._edited(kind, layer, list(changed))
            assert site is not None, "a read that there is has a site"
            sources[site.name] = edited
        mx.eval(list(sources.values()))
        cells: list[tuple[int, Sequence[Patch]]] = []
        for _, cell in chunk.cells:
            cells.append(
                (self._birth(cell), [self._patch(chunk, cell, read) for read in cell.receiver.reads])
            )
        batch = Batch(
            self.resolver,
            self.base.run,
            {False: sources},
            cells,
            self.edited.block,
            side_axes=self.engine.axes,
            sparse=self.engine.name == "fanout" and self.engine.causal,
            read=self.read,
        )
        logits = batch.run()
        n = len(batch.base_rows)
        off = calibration.beyond_rounding(self.resolver, logits[:n], self.base.logits)
        if off:
            raise EngineError(
                f"the base rows of a pass differ from the plain run's logits by {off}: nothing was returned"
            )
        return logits[n:]

    def _live(self, chunk: _Chunk) -> np.ndarray:
        """The same of cells whose receivers' reads see each other."""
        return LivePaths(self.edited, self.engine).logits([cell for _, cell in chunk.cells])

    def _birth(self, cell: PathCell) -> int:
        layer = min(read.layer for read in cell.receiver.reads)
        if self.resolver.structure.norm is None:  # the logits are made of the last layer's output
            layer = min(layer, self.graph.n_layers - 1)
        return layer if self.engine.name == "fanout" else FLAT

    def _edited(self, kind: str, layer: int, senders: list[Sender]) -> mx.array:
        """The reads of a kind, with each sender's change of what they read, a few at a time."""
        parts, step = [], min(TOGETHER, self._most_cells())
        for i in range(0, len(senders), step):
            changes = [self.edited.change(sender) for sender in senders[i : i + step]]
            part = self.edited.reads(kind, layer, changes)
            parts.append(part[:, -self.read :] if kind == "logits" else part)
            mx.eval(parts[-1])
        return mx.concatenate(parts) if len(parts) > 1 else parts[0]

    def _patch(self, chunk: _Chunk, cell: PathCell, read: Read) -> Patch:
        site, row = self._site(read), chunk.rows[read.kind, read.layer][cell.sender] * self.edited.block
        assert site is not None, "a read that there is has a site"
        if read.kind == "logits":
            first = self.length - self.read
            at = tuple(p for p in cell.at if p >= first)
            return Patch(site, at, tuple(p - first for p in at), source_row=row)
        heads = (read.head,) if read.kind in "qkv" else None
        return Patch(site, cell.at, cell.at, heads, source_row=row)


def _first_difference(base: Rows, source: Rows) -> int:
    """The first position at which two runs can differ."""
    (a,), (b,) = base.members, source.members
    different = [i for i, (x, y) in enumerate(zip(a.ids, b.ids, strict=False)) if x != y]
    return min([*different[:1], *a.noised, *b.noised, min(a.length, b.length)])
