"""Whether edges are edges of this model, on this very pair: identities over all that senders write and reads become.

    check(edited, engine)        # nothing, or UnsupportedError with what was seen

Four runs are put together out of contributions and reads alone, the layers' outputs never being used:

    no edge carries the source run                     the base run's logits
    the embedding's edges do                           the source run's logits, every read being computed from its own
    every edge does                                    the source run's logits
    those of every other head do                       the logits of a pass in which these heads are patched

The first three hold for any split of the stream into parts that are summed up; the last one tells heads apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from ..errors import UnsupportedError
from . import calibration
from .batch import Batch
from .edited_reads import EditedReads
from .graph import Node, read_by_logits
from .plan import FLAT, Engine, Patch

NONE, EMBEDDING, ALL, SOME = range(4)  # the runs that are put together
NAMES = {
    NONE: "no edge carrying the source run does not give the base run's logits",
    EMBEDDING: "the embedding's edges carrying the source run do not give the source run's logits",
    ALL: "all edges carrying the source run do not give its logits",
    SOME: "the edges of some heads carrying the source run do not give what patching these heads gives",
}
# Sums over senders are made in another order than the model's: as many times the rounding of logits.
SUMS = 2


def check(edited: EditedReads, engine: Engine) -> None:
    """UnsupportedError when the identities above do not hold, with what was seen in their place.

    A model whose final norm's input is only near the sum of contributions, say, is refused here.
    """
    found, right = _Composed(edited, engine).logits()
    for which, expected in right.items():
        off = calibration.largest_difference(found[which], expected)
        limit = SUMS * calibration.rounding(edited.base.resolver) * calibration.largest_logit(expected)
        if not off <= limit:  # NaN as well
            raise UnsupportedError(
                f"edges of this model cannot be patched: {NAMES[which]}: the largest difference is {off:.3g}, where "
                f"rounding explains {limit:.3g}"
            )


class _Composed:
    """The runs that are put together, as what their streams have more than the base run's: `[4 * block, T, D]`."""

    def __init__(self, edited: EditedReads, engine: Engine):
        self.edited, self.engine, self.graph = edited, engine, edited.graph
        self.base, self.source, self.block = edited.base, edited.source, edited.block
        self.apart = [
            n for n in range(self.graph.n_layers) if self.graph.heads[n] and self.base.heads_apart(n)
        ]

    def more(self) -> mx.array:
        """What the final norm is given more than in the base run."""
        more = self._put(
            mx.zeros((4 * self.block, *self.base.streams[0].shape[1:])), Node("embed"), (EMBEDDING, ALL)
        )
        for layer in range(self.graph.n_layers):
            after = more
            if self.graph.heads[layer]:
                after = more + self._heads(layer, more)
            if self.graph.has_mlp[layer]:
                read = self._read("mlp", layer, more if self.graph.parallel[layer] else after)
                after = after + self._put(self.edited.mlp_change(layer, read), Node("mlp", layer), (ALL,))
            more = after
            mx.eval(more)
        return more

    def _read(self, kind: str, layer: int, more: mx.array) -> mx.array:
        return self.edited.reads(kind, layer, [more])

    def _heads(self, layer: int, more: mx.array) -> mx.array:
        heads = range(self.graph.heads[layer])
        change = self.edited.heads_change(layer, heads, *(self._read(kind, layer, more) for kind in "qkv"))
        total = mx.zeros(more.shape)
        for head in heads:
            carried = (ALL, SOME) if layer in self.apart and head % 2 == 0 else (ALL,)
            total = total + self._put(change[head], Node("head", layer, head), carried)
        return total

    def _put(self, change: mx.array, node: Node, carried: tuple[int, ...]) -> mx.array:
        """A sender's change, in some of the runs that of the source run."""
        own, rows = self.edited.change_of(node), np.arange(4 * self.block) // self.block
        carries = mx.array(np.isin(rows, carried).tolist())[:, None, None]
        return mx.where(carries, mx.concatenate([own] * 4), change)

    def logits(self) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
        """The logits of the composed runs, and what they must be, by run."""
        at, source_at = self.edited.at, self.edited.source_at
        resolver, read, length = self.base.resolver, self.base.read, self.base.run.length
        last = tuple(range(length - read, length))
        given, stream = read_by_logits(resolver), resolver.site("resid_pre", 0)
        sources = {given.name: self._read("logits", self.graph.n_layers, self.more())[:, -read:]}
        cells: list[tuple[int, Sequence[Patch]]] = [(self._birth(0), (Patch(stream, at, source_at),))]
        sources[stream.name] = self.source.streams[0]
        patches = []
        for layer in self.apart:
            site = resolver.site("head", layer)
            sources[site.name] = self.source.projected[layer]
            patches.append(Patch(site, at, source_at, tuple(range(0, self.graph.heads[layer], 2))))
        cells += [(self._birth(self.apart[0]), tuple(patches))] if patches else []
        tail = [(Patch(given, last, tuple(range(read)), source_row=i * self.block),) for i in range(4)]
        end = self.graph.n_layers - (given.layer is not None)
        cells += [(self._birth(end), patch) for patch in tail]
        batch = Batch(
            resolver,
            self.base.run,
            {False: sources},
            cells,
            self.block,
            side_axes=self.engine.axes,
            read=read,
        )
        logits = batch.run()[len(batch.base_rows) :]
        rows = logits.reshape(len(cells), self.block, *logits.shape[1:])
        samples = np.arange(self.block)
        right = {NONE: self.base.logits[samples % len(self.base.logits)], EMBEDDING: rows[0]}
        if patches:
            right[SOME] = rows[1]
        behind = self.source.run.length - length
        if all(p in at and source_at[at.index(p)] == p + behind for p in last):
            right[ALL] = self.source.logits[samples % len(self.source.logits)]
        if len(at) == self.base.run.length == self.source.run.length:
            right[EMBEDDING] = self.source.logits[samples % len(self.source.logits)]
        return dict(enumerate(rows[-4:])), right

    def _birth(self, layer: int) -> int:
        return layer if self.engine.name == "fanout" else FLAT
