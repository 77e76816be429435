"""Edges of one prompt pair: what senders change from the base run to the source run, and what reads it become.

    edited = EditedReads(base, source, at, source_at)
    change = edited.change(sender)                 # [block, T, D]: what its contribution has more in the source run
    edited.reads("k", 7, [change, other])          # keys of layer 7 [2 * block, T, heads, width], one edge each
    edited.check()                                 # these are edges of this model, or UnsupportedError

A chain's change is what the output of its last member changes, each member computed from its edited read alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from .graph_names import Receiver, Sender
from .split_reads import Node, SplitRun

KINDS = ("q", "k", "v", "mlp", "logits")


class EditedReads:
    """A base run whose reads are edited, and the source run that the edits come from.

    Args:
        base, source: both runs, with what their senders write.
        at, source_at: where contributions are written in the base run, and where they are read in the source run.
        most_bytes: what may be kept of changes that are asked for again.

    Attributes:
        block: rows of each edit: samples of noise.
    """

    def __init__(
        self,
        base: SplitRun,
        source: SplitRun,
        at: Sequence[int],
        source_at: Sequence[int],
        most_bytes: int = 1 << 30,
    ):
        self.base, self.source, self.graph = base, source, base.graph
        self.at, self.source_at = tuple(at), tuple(source_at)
        self.block = max(base.run.rows, source.run.rows)
        self.most_bytes = most_bytes
        self._changes: dict[Node, mx.array] = {}
        self._chains: dict[Sender, mx.array] = {}
        self._plain: dict[int, dict[str, mx.array]] = {}

    # ---- what senders change

    def change(self, sender: Sender) -> mx.array:
        """What the stream has more of a sender in the source run, float32 `[block, T, D]`."""
        if sender in self._chains:
            return self._chains[sender]
        found = [self.change_of(node) for node in sender.nodes]
        total = sum(found[1:], found[0])
        for receiver in sender.through:
            total = self._passed(receiver, total)
        if sender.through:
            self._keep(self._chains, {sender: total})
        return total

    def _keep(self, kept: dict, found: dict) -> None:
        """Keep what was found, and let go what is oldest where that is too much."""
        mx.eval(list(found.values()))
        kept.update(found)
        while len(kept) > len(found) and sum(x.nbytes for x in kept.values()) > self.most_bytes:
            del kept[next(iter(kept))]

    def change_of(self, node: Node) -> mx.array:
        """What the stream has more of one node, float32 `[block, T, D]`."""
        if node.kind == "resid":
            return self.placed(*(run.contribution(node) for run in (self.base, self.source)))
        if node not in self._changes:
            both = [self._contributions(run, node) for run in (self.base, self.source)]
            self._keep(self._changes, {key: self.placed(both[0][key], both[1][key]) for key in both[0]})
        return self._changes[node]

    def _contributions(self, run: SplitRun, node: Node) -> dict[Node, mx.array]:
        return {node: run.contribution(node)} if node.kind == "embed" else run.contributions(node.layer)

    def placed(self, base: mx.array, source: mx.array) -> mx.array:
        """source less base `[block, T, ...]`, at the positions that have a counterpart; 0 at the others."""
        source, rows = mx.take(source, mx.array(self.source_at), axis=1), mx.arange(self.block)
        change = source[rows % len(source)] - mx.take(base, mx.array(self.at), axis=1)[rows % len(base)]
        found = mx.zeros((self.block, *base.shape[1:]), dtype=change.dtype)
        found[:, mx.array(self.at)] = change
        return found

    def _passed(self, receiver: Receiver, change: mx.array) -> mx.array:
        """What the outputs of a receiver change when its reads, and nothing else, are edited."""
        total = mx.zeros(change.shape)
        for layer in sorted({read.layer for read in receiver.reads}):
            reads = [read for read in receiver.reads if read.layer == layer]
            heads = [node.head for node in receiver.outputs if (node.kind, node.layer) == ("head", layer)]
            attention = {read.kind: [r.head for r in reads if r.kind == read.kind] for read in reads}
            if attention.pop("mlp", None):
                total = total + self.mlp_change(layer, self.reads("mlp", layer, [change]))
            if heads:
                q, k, v = (self._with_heads(kind, layer, attention.get(kind, ()), change) for kind in "qkv")
                total = total + self.heads_change(layer, heads, q, k, v).sum(0)
        mx.eval(total)
        return total

    def _with_heads(self, kind: str, layer: int, heads: Sequence[int], change: mx.array) -> mx.array:
        """Queries, keys or values of the base run `[block, T, heads, width]`, some heads' from an edited read."""
        plain = self._tiled(self.plain_reads(layer)[kind], 1)
        if not heads:
            return plain
        edited = (mx.arange(plain.shape[2])[:, None] == mx.array(list(heads))).any(1)
        return mx.where(edited[:, None], self.reads(kind, layer, [change]), plain)

    def heads_change(
        self, layer: int, heads: Sequence[int], q: mx.array, k: mx.array, v: mx.array
    ) -> mx.array:
        """What heads write more with these queries, keys and values than in the base run `[heads, N, T, D]`."""
        base = self.base
        after = base.heads_written(layer, base.attended(layer, q, k, v), heads)
        before = base.heads_written(layer, base.projected[layer], heads)
        return after - mx.concatenate([before] * (after.shape[1] // before.shape[1]), axis=1)

    def mixer_change(self, layer: int, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        """What the whole mixer writes more with these queries, keys and values than in the base run `[N, T, D]`."""
        base = self.base
        after = base.mixer_written(layer, base.attended(layer, q, k, v))
        return after - self._tiled(base.mixer_written(layer, base.projected[layer]), len(after) // self.block)

    def mlp_change(self, layer: int, output: mx.array) -> mx.array:
        """What the MLP writes more with this output than in the base run `[N, T, D]`."""
        before = self.base.mlp_written(layer, self.base.mlps[layer])
        return self.base.mlp_written(layer, output) - self._tiled(before, len(output) // self.block)

    # ---- what is read

    def reads(self, kind: str, layer: int, changes: Sequence[mx.array]) -> mx.array:
        """What the reads of a kind become with each change of what they read, `[changes * block, T, ...]`.

        q, k, v: `[..., heads, width]`. mlp: as the site `mlp` has it. logits: what the final norm is given.
        """
        change = mx.concatenate(list(changes))
        x = self._tiled(self.base.stream_of(kind, layer), len(change) // self.block)
        x = (x.astype(mx.float32) + change).astype(x.dtype)
        return x if kind == "logits" else self.base.reads(layer, x, (kind,))[kind]

    def plain_reads(self, layer: int) -> dict[str, mx.array]:
        """Queries, keys and values of a layer in the base run."""
        if layer not in self._plain:
            self._plain[layer] = self.base.reads(layer, self.base.streams[layer], "qkv")
        return self._plain[layer]

    def _tiled(self, x: mx.array, times: int) -> mx.array:
        """An array of the base run `[rows, ...]` with `times * block` rows."""
        n = times * self.block // len(x)
        return mx.array(x) if n == 1 else mx.concatenate([x] * n)
