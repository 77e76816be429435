"""Receivers that are patched together and see each other: rows put together layer by layer, out of split reads.

    rows = LivePaths(edited, engine)
    rows.logits([PathCell(sender, receiver, positions), ...])      # [cells * block, V]

Every member of a receiver reads the stream of its own row, in which the members before it have changed what they
write, with the sender's contribution of the source run in place of the base run's. With every read of the model as
the receiver this is the sender's output patched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from .edge_check import FLAT, Batch, EditedReads, Engine, Patch, read_by_logits


class LivePaths:
    """Rows of the base run of a pair, each with the reads of one receiver edited."""

    def __init__(self, edited: EditedReads, engine: Engine):
        self.edited, self.engine, self.graph, self.block = edited, engine, edited.graph, edited.block

    def logits(self, cells: Sequence[Any]) -> np.ndarray:
        """The logits that are read of some cells (sender, receiver, at), float32 `[cells * block, ...]`."""
        change = mx.concatenate([self._at(self.edited.change(cell.sender), cell.at) for cell in cells])
        members = [{(r.kind, r.layer, r.head) for r in cell.receiver.reads} for cell in cells]
        more = mx.zeros(change.shape)
        first = min(layer for one in members for _, layer, _ in one)
        for layer in range(first, self.graph.n_layers):
            after = more
            if self.graph.heads[layer]:
                q, k, v = (self._read(kind, layer, more, change, members) for kind in "qkv")
                after = more + self.edited.mixer_change(layer, q, k, v)
            if self.graph.has_mlp[layer]:
                seen = more if self.graph.parallel[layer] else after
                after = after + self.edited.mlp_change(layer, self._read("mlp", layer, seen, change, members))
            more = after
            mx.eval(more)
        carried = self._members("logits", self.graph.n_layers, 1, members)
        return self._through_the_head(more + mx.where(carried, change, 0))

    @staticmethod
    def _at(change: mx.array, positions: Sequence[int]) -> mx.array:
        """A change at some positions, and 0 elsewhere."""
        there = np.isin(np.arange(change.shape[1]), list(positions))
        return mx.where(mx.array(there.tolist())[:, None], change, 0)

    def _members(self, kind: str, layer: int, heads: int, members: list[set]) -> mx.array:
        """Which heads of which rows are members of the row's receiver, bool `[rows, 1, heads]`; one for an MLP."""
        found = [[(kind, layer, head) in one for head in range(heads)] for one in members]
        return mx.array(np.repeat(found, self.block, axis=0).tolist())[:, None]

    def _read(self, kind: str, layer: int, more: mx.array, change: mx.array, members: list[set]) -> mx.array:
        """The reads of a kind of each row: of members with the change, of others without."""
        plain = self.edited.reads(kind, layer, [more])
        if not any((kind, layer) == read[:2] for one in members for read in one):
            return plain
        edited = self.edited.reads(kind, layer, [more + change])
        heads = plain.shape[2] if kind in "qkv" else 1
        which = self._members(kind, layer, heads, members)
        return mx.where(which[..., None] if kind in "qkv" else which, edited, plain)

    def _through_the_head(self, more: mx.array) -> np.ndarray:
        """The logits of rows whose last stream has so much more than the base run's."""
        resolver, read = self.edited.base.resolver, self.edited.base.read
        length = self.edited.base.run.length
        last = tuple(range(length - read, length))
        given, end = read_by_logits(resolver), self.graph.n_layers
        sources = {given.name: self.edited.reads("logits", end, [more])[:, -read:]}
        birth = end - (given.layer is not None) if self.engine.name == "fanout" else FLAT
        cells: list[tuple[int, Sequence[Patch]]] = [
            (birth, (Patch(given, last, tuple(range(read)), source_row=row),))
            for row in range(0, len(more), self.block)
        ]
        batch = Batch(
            resolver,
            self.edited.base.run,
            {False: sources},
            cells,
            self.block,
            side_axes=self.engine.axes,
            read=read,
        )
        return batch.run()[len(batch.base_rows) :]
