"""One pass with a set of edges kept clean and all others corrupted: many circuits together, layer by layer.

passed = CircuitPass(clean, corrupted)      # two `SplitRun`s
passed.logits(kept)                         # float32 [circuits, rows, V], for kept bool [circuits, senders, receivers]

What a read is given is the corrupted run's stream, plus for each kept edge what its sender writes in this very pass
less what it wrote in the corrupted run. Reads of one layer that keep the same senders are given the same, and share a
row. Every sender is computed anew from what its own reads were given.
"""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx
import numpy as np

from ..anatomy.recording import forward, last_logits
from .edge_check import SUMS, Node, UnsupportedError, calibration, read_by_logits
from .runs import Hooks, to_numpy
from .split_reads import SplitRun


class CircuitPass:
    """Passes of circuits between a clean and a corrupted run.

    Args:
        clean, corrupted: the runs, of one length; clean has as many rows, or one for each of its members' samples.
        most_bytes: what the rows of a pass may take.
    """

    def __init__(self, clean: SplitRun, corrupted: SplitRun, most_bytes: int = 1 << 30):
        self.base, self.graph = corrupted, corrupted.graph
        self.rows, shape = corrupted.run.rows, corrupted.streams[0].shape
        self.shape = (self.rows, *shape[1:])
        self.most_bytes = most_bytes
        self.clean, self.beside = clean, np.arange(self.rows) // (self.rows // clean.run.rows)
        embed = Node("embed")
        self.embedded = clean.contribution(embed)[mx.array(self.beside)] - corrupted.contribution(embed)
        self.reads = [(read.kind, read.layer) for read in self.graph.receivers]
        self.written = [corrupted.contributions(layer) for layer in range(self.graph.n_layers)]
        mx.eval(self.embedded, [list(found.values()) for found in self.written])

    def logits(self, kept: np.ndarray) -> np.ndarray:
        """The logits of each circuit that are read, float32 `[circuits, rows, V]`, or `[circuits, rows, read, V]`.

        Two more are run with them: all edges kept must give the clean run's logits, and none the corrupted run's.

        Raises:
            UnsupportedError: they do not, and by how much.
        """
        whole = self.graph.upstream
        kept = np.concatenate([kept & whole, whole[None], np.zeros_like(whole)[None]])
        *found, every, none = np.concatenate([self._run(kept[some]) for some in self._chunks(len(kept))])
        self._check("all", every, self.clean.logits[self.beside])
        self._check("no", none, self.base.logits)
        return np.array(found).reshape(-1, *every.shape)

    def _check(self, which: str, found: np.ndarray, expected: np.ndarray) -> None:
        resolver = self.base.resolver
        off = calibration.largest_difference(found, expected)
        limit = SUMS * calibration.rounding(resolver) * calibration.largest_logit(expected)
        if not off <= limit:  # NaN as well
            raise UnsupportedError(
                f"circuits of this model cannot be run: with {which} edges kept its logits are off by {off:.3g}, where "
                f"rounding explains {limit:.3g}"
            )

    def _chunks(self, n: int) -> Iterator[slice]:
        """As many circuits at once as their changes, and the rows of a layer's reads, have room for."""
        widest = max(self.reads.count((kind, layer)) for kind, layer in self.reads)
        of_one = 4 * int(np.prod(self.shape)) * (2 * len(self.graph.senders) + 12 * widest)
        step = max(1, self.most_bytes // of_one)
        return (slice(i, i + step) for i in range(0, n, step))

    def _run(self, kept: np.ndarray) -> np.ndarray:
        """All layers of some circuits; `changes` is what each sender so far writes more than in the corrupted run."""
        n = len(kept)
        changes = mx.broadcast_to(self.embedded.reshape(1, 1, -1), (n, 1, self.embedded.size))
        for layer in range(self.graph.n_layers):
            for part in (self._heads, self._mlp):
                found = part(layer, kept, changes)
                if found is not None:
                    changes = mx.concatenate([changes, found], axis=1)
                    mx.eval(changes)
        last = [i for i, (kind, _) in enumerate(self.reads) if kind == "logits"]
        masks = [kept[c][:, last].T for c in range(n)]
        x = self._given(self.base.streams[-1], masks, range(n), changes)
        logits = self._through_the_head(x)
        return logits.reshape(n, self.rows, *logits.shape[1:])

    def _given(
        self, stream: mx.array, masks: list[np.ndarray], circuits: object, changes: mx.array
    ) -> mx.array:
        """What reads are given `[reads * rows, T, D]`; masks: by circuit, bool `[reads, senders]`."""
        so_far, found = changes.shape[1], []
        for c, mask in zip(circuits, masks, strict=True):  # type: ignore[call-overload]
            weights = mx.array(mask[:, :so_far].astype(np.float32))
            found.append((weights @ changes[c]).reshape(-1, *self.shape))
        x = stream.astype(mx.float32)[None] + mx.concatenate(found)
        return x.reshape(-1, *self.shape[1:])

    def _heads(self, layer: int, kept: np.ndarray, changes: mx.array) -> mx.array | None:
        """What a layer's heads write more `[circuits, heads, rows * T * D]`."""
        heads = self.graph.heads[layer]
        if not heads:
            return None
        columns = {kind: [i for i, read in enumerate(self.reads) if read == (kind, layer)] for kind in "qkv"}
        every = [i for own in columns.values() for i in own]
        active = np.flatnonzero(kept[:, :, every].any((1, 2)))
        masks, rows, total = [], [], 0
        for c in active:
            distinct, own = np.unique(kept[c][:, every].T, axis=0, return_inverse=True)
            masks.append(distinct)
            rows.append(own.ravel() + total)
            total += len(distinct)
        if not masks:
            return mx.zeros((len(kept), heads, changes.shape[2]))
        x = self._given(self.base.streams[layer], masks, active, changes)
        found, ends = self.base.reads(layer, x, "qkv"), np.cumsum([len(columns[kind]) for kind in "qkv"])[:-1]
        chosen = zip("qkv", np.split(np.stack(rows), ends, axis=1), strict=True)
        attended = self.base.attended(layer, *(self._picked(found[kind], own) for kind, own in chosen))
        written = self.base.heads_written(layer, attended, range(heads))
        before = mx.stack([self.written[layer][Node("head", layer, head)] for head in range(heads)])
        more = written.reshape(heads, len(active), *self.shape) - before[:, None]
        return self._placed(more.swapaxes(0, 1).reshape(len(active), heads, -1), active, len(kept))

    def _picked(self, found: mx.array, own: np.ndarray) -> mx.array:
        """Of queries, keys or values `[reads * rows, T, heads, width]` each head's own, `[circuits * rows, ...]`.

        own: `[circuits, heads]`, the read whose row has it.
        """
        heads, width = found.shape[2:]
        apart = found.reshape(-1, self.rows, self.shape[1], heads, width).transpose(0, 3, 1, 2, 4)
        picked = apart[mx.array(own), mx.arange(heads)[None]]  # [circuits, heads, rows, T, width]
        return picked.transpose(0, 2, 3, 1, 4).reshape(-1, self.shape[1], heads, width)

    def _mlp(self, layer: int, kept: np.ndarray, changes: mx.array) -> mx.array | None:
        """What a layer's MLP writes more `[circuits, 1, rows * T * D]`."""
        if not self.graph.has_mlp[layer]:
            return None
        column = [i for i, read in enumerate(self.reads) if read == ("mlp", layer)]
        active = np.flatnonzero(kept[:, :, column].any((1, 2)))
        if not len(active):
            return mx.zeros((len(kept), 1, changes.shape[2]))
        x = self._given(
            self.base.stream_of("mlp", layer), [kept[c][:, column].T for c in active], active, changes
        )
        written = self.base.mlp_written(layer, self.base.reads(layer, x, ("mlp",))["mlp"])
        more = written.reshape(len(active), *self.shape) - self.written[layer][Node("mlp", layer)][None]
        return self._placed(more.reshape(len(active), 1, -1), active, len(kept))

    def _placed(self, more: mx.array, active: np.ndarray, n: int) -> mx.array:
        """The changes of the active circuits among those of all, in which nothing changes."""
        if len(active) == n:
            return more
        found = mx.zeros((n, *more.shape[1:]))
        found[mx.array(active)] = more
        return found

    def _through_the_head(self, x: mx.array) -> np.ndarray:
        """The logits `[N, ...]` of streams `[N, T, D]` that the final norm is given; nothing before it is computed."""
        resolver, run, read = self.base.resolver, self.base.run, self.base.read
        hooks, last = Hooks(resolver), x[:, -read:].astype(self.base.streams[-1].dtype)
        hooks.add_site(read_by_logits(resolver), lambda _: last)
        rows = np.tile(np.arange(self.rows), len(x) // self.rows)
        with hooks.hooked():
            logits = last_logits(forward(resolver.net, run.tokens(rows)), read)
            mx.eval(logits)
        return to_numpy(logits)
