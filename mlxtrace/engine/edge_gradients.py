"""Estimates of what edges change, from gradients: all edges of a pair in a few passes (EAP, EAP-IG).

    scores = edge_estimates(edited, measure, steps=5)      # float64 [rows, senders, receivers]

The score of an edge is `(source's contribution - base's) . d measure / d (the read's own input)`. EAP takes the
gradient in the base run (Syed et al. 2023, arXiv:2310.10348, eq. 2). EAP-IG takes its mean over runs whose embeddings
lie between both (Hanna et al. 2024, arXiv:2403.17806, eq. 3): at `base + j / steps (source - base)`, j = 1 ... steps,
as the authors' code has it, the base run being their clean run; the paper's sum counts from the other end.

A read's own gradient is that of its output (queries, keys and values by head, the MLP) taken back through the layer's
own norm and projection, with the other reads' gradients left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from .edited_reads import EditedReads
from .gradients import Gradients, Measure, UnsupportedError, checked_way
from .runs import Keep, capture_sites
from .split_reads import SplitRun, read_by_logits


@dataclass(frozen=True)
class Between:
    """A run whose embeddings lie between those of two runs: `base + share * (source - base)` where they are paired.

    theirs: what the embedding gives in the source run, `[rows, positions, D]`, at the positions that `at` answers to.
    rows: of the run, as many as the samples of either.
    """

    run: Any
    theirs: mx.array
    at: tuple[int, ...]
    share: float
    rows: int

    @property
    def members(self) -> tuple[Any, ...]:
        return self.run.members

    @property
    def each(self) -> int:
        return self.rows

    @property
    def length(self) -> int:
        return self.run.length

    @property
    def noised(self) -> tuple[int, ...]:
        return self.run.noised

    def tokens(self, rows: np.ndarray, start: int = 0) -> mx.array:
        """The token ids `[N, T - start]` of rows."""
        return self.run.tokens(rows % self.run.rows, start)

    def embedded(self, x: mx.array, rows: np.ndarray, start: int = 0) -> mx.array:
        """The embeddings `[N, T, D]` of rows, part of the way to the source run's."""
        y = mx.array(self.run.embedded(x, rows % self.run.rows, start))
        at = mx.array(self.at)
        here, there = y[:, at].astype(mx.float32), self.theirs[mx.array(rows % len(self.theirs))]
        y[:, at] = (here + self.share * (there.astype(mx.float32) - here)).astype(y.dtype)
        return y


def edge_estimates(
    edited: EditedReads,
    measure: Measure,
    at: Sequence[int],
    steps: int = 0,
    most_bytes: int = 1 << 30,
) -> np.ndarray:
    """Estimates of the change of what is measured, `patched - base`, by every edge alone.

    Args:
        edited: both runs of a pair.
        measure: of the logits that are read, in MLX -> `[rows]`.
        at: positions of the base run at which contributions are changed.
        steps: runs that gradients are averaged over, for EAP-IG; 0 for the base run alone.
        most_bytes: what a layer's reads may take at once.

    Returns:
        float64 `[rows, senders, receivers]`, 0 where there is no edge.

    Raises:
        UnsupportedError: the model's gradients are not right, or do not exist.
    """
    graph = edited.graph
    changes = mx.stack([edited.change_of(node) for node in graph.senders])  # [senders, rows, T, D]
    changed = mx.array(np.isin(np.arange(changes.shape[2]), at).tolist())
    changes = mx.where(changed[:, None], changes, 0)
    total = np.zeros((edited.block, *graph.upstream.shape))
    for run in _runs(edited, steps):
        for receivers, gradient in _Backward(run, measure, most_bytes).reads():
            total[:, :, receivers] += _products(changes, gradient)
    return np.where(graph.upstream, total / max(steps, 1), 0.0)


def _runs(edited: EditedReads, steps: int) -> Iterator[SplitRun]:
    """The runs that are differentiated: the base run, or those on the way from it to the source run."""
    if not steps:
        yield edited.base
        return
    embed = edited.graph.resolver.site("embed")
    theirs = capture_sites(edited.graph.resolver, edited.source.run, [embed], {embed.name: Keep()})[
        embed.name
    ]
    theirs = mx.take(theirs, mx.array(edited.source_at), axis=1)
    for j in range(1, steps + 1):
        run = Between(edited.base.run, theirs, edited.at, j / steps, edited.block)
        yield SplitRun(edited.graph, run, edited.base.read)


def _products(changes: mx.array, gradient: mx.array) -> np.ndarray:
    """The sums over positions and width of each sender's change times each read's gradient, `[rows, senders, reads]`.

    Only the last positions have a gradient where it is shorter.
    """
    changes = changes[:, :, changes.shape[2] - gradient.shape[2] :].swapaxes(0, 1)
    flat = (x.reshape(*x.shape[:2], -1) for x in (changes, gradient.swapaxes(0, 1)))
    theirs, ours = flat
    found = theirs @ ours.swapaxes(1, 2)
    return np.array(found.astype(mx.float32), dtype=np.float64)


class _Backward:
    """The gradients of one run for the input of each of its reads."""

    def __init__(self, run: SplitRun, measure: Measure, most_bytes: int):
        self.run, self.graph, self.resolver, self.most_bytes = run, run.graph, run.graph.resolver, most_bytes
        self.numbers = {(read.kind, read.layer, read.head): i for i, read in enumerate(self.graph.receivers)}
        sites = [read_by_logits(self.resolver)]
        for layer in range(self.graph.n_layers):
            kinds = ("q", "k", "v") if self.graph.heads[layer] else ()
            sites += [self.resolver.site(kind, layer) for kind in kinds]
            sites += [self.resolver.site("mlp", layer)] * self.graph.has_mlp[layer]
        _, found = Gradients(self.resolver, run.run, sites, read=run.read).of(measure)
        self.found = {site.name: found[site.name] for site in sites}
        self.way = checked_way(self.resolver)
        if self.resolver.gradient_sums:  # a layer that is run again is not given them
            raise UnsupportedError(
                "the gradients of this sharded model's reads are parts of a sum over its processes, so that its edges "
                "have no estimates: use method='exact'"
            )

    def reads(self) -> Iterator[tuple[list[int], mx.array]]:
        """For some receivers at a time, by number, their gradients float32 `[reads, rows, T, D]`."""
        yield (
            [self.numbers["logits", self.graph.n_layers, 0]],
            self._at(read_by_logits(self.resolver).name)[None],
        )
        for layer in range(self.graph.n_layers):
            if self.graph.has_mlp[layer]:
                x, cotangent = self.run.stream_of("mlp", layer), self._at(f"layers.{layer}.mlp")
                yield [self.numbers["mlp", layer, 0]], self._back("mlp", layer, x, cotangent)[None]
            for kind in ("q", "k", "v") if self.graph.heads[layer] else ():
                yield from self._of_heads(kind, layer)

    def _at(self, site: str) -> mx.array:
        return self.found[site]

    def _of_heads(self, kind: str, layer: int) -> Iterator[tuple[list[int], mx.array]]:
        """Of each head's queries, keys or values by themselves: a copy of the rows for each."""
        x, cotangent = self.run.streams[layer], self._at(f"layers.{layer}.{kind}")
        heads, rows = cotangent.shape[2], len(x)
        step = max(1, self.most_bytes // (24 * max(x.nbytes, cotangent.nbytes)))
        for start in range(0, heads, step):
            some = range(start, min(start + step, heads))
            own = (mx.arange(heads)[None] == mx.array(list(some))[:, None])[:, None, None, :, None]
            apart = mx.where(own, cotangent[None], 0).reshape(-1, *cotangent.shape[1:])
            found = self._back(kind, layer, mx.concatenate([x] * len(some)), apart)
            numbers = [self.numbers[kind, layer, head] for head in some]
            yield numbers, found.reshape(len(some), rows, *x.shape[1:])

    def _back(self, kind: str, layer: int, x: mx.array, cotangent: mx.array) -> mx.array:
        """The gradient for what a layer's reads are given `[N, T, D]`, of that for what they become."""

        def read(given: mx.array) -> list[mx.array]:
            return [self.run.reads(layer, given, (kind,))[kind]]

        with self.way.taken(self.resolver):
            _, (found,) = mx.vjp(read, [x], [cotangent.astype(x.dtype)])
            found = found.astype(mx.float32)
            mx.eval(found)
        return found
