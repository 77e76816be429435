"""Split reads: what each sender writes to the stream, and what each read becomes when its input is edited.

    base = SplitRun(graph, run)
    base.contribution(node)              # what a sender writes `[rows, T, D]`; they add up to the stream
    base.reads(3, x)["k"]                # the keys of layer 3 `[N, T, heads, width]`, were x what they read

An edge from a sender to a read is patched when the read gets the stream of the base run less what the sender
writes there, plus what it writes in the source run. The norm sees that stream, so nothing is linearised.
"""

from __future__ import annotations

from collections.abc import Iterable

import mlx.core as mx
import numpy as np

from ..anatomy.recording import forward, last_logits
from .graph import Graph, Node, read_by_logits
from .head_writer import HeadWriter
from .layer_records import record_calls
from .runs import Hooks, Rows, fresh, slice_to_last, to_numpy

READS = ("q", "k", "v", "mlp")


class SplitRun:
    """A plain run, with what its senders write and with its layers to be run again on other inputs.

    Args:
        graph: of the model.
        run: the rows that are run.
        read: of how many of the last positions there are logits.

    Attributes:
        streams: by layer, what it is given `[rows, T, D]`; after the last layer's, what the logits are made of.
        mixed: by layer, what its mixer gives. projected: what its heads give `[rows, T, heads, width]`. mlps: what
            the site `mlp` has.
        logits: the last position's, float32 `[rows, V]`, or of more than one `[rows, read, V]`.
    """

    def __init__(self, graph: Graph, run: Rows, read: int = 1):
        self.graph, self.resolver, self.run, self.read = graph, graph.resolver, run, read
        self.streams: list[mx.array] = []
        self.mixed: dict[int, mx.array] = {}
        self.projected: dict[int, mx.array] = {}
        self.mlps: dict[int, mx.array] = {}
        self._writers: dict[int, HeadWriter] = {}
        hooks, rows = Hooks(self.resolver), np.arange(run.rows)
        hooks.add(self.resolver.site("embed"), lambda x: run.embedded(fresh(x), rows))
        self.calls = record_calls(hooks)
        self._keep(hooks)
        slice_to_last(hooks, read)
        with hooks.hooked():
            logits = last_logits(forward(self.resolver.net, run.tokens(rows)), read)
            mx.eval(
                logits, self.streams, *(list(x.values()) for x in (self.mixed, self.projected, self.mlps))
            )
        self.logits = to_numpy(logits)

    def _keep(self, hooks: Hooks) -> None:
        streams, site = self.streams, self.resolver.site
        for layer in range(self.graph.n_layers):
            hooks.add_site(site("resid_pre", layer), streams.append)
            if self.graph.heads[layer]:
                hooks.add_site(site("attn", layer), lambda x, at=layer: self.mixed.update({at: x}))
                hooks.add_site(site("head", layer), lambda x, at=layer: self.projected.update({at: x}))
            if self.graph.has_mlp[layer]:
                hooks.add_site(site("mlp", layer), lambda x, at=layer: self.mlps.update({at: x}))
        hooks.add_site(read_by_logits(self.resolver), streams.append)

    # ---- what is written

    def contribution(self, node: Node) -> mx.array:
        """What a sender writes to the stream, float32 `[rows, T, D]`; of "resid", all that stands in it."""
        if node.kind in ("embed", "resid"):
            return self.streams[node.layer].astype(mx.float32)
        if node.kind == "mlp":
            return self.mlp_written(node.layer, self.mlps[node.layer])
        return self.heads_written(node.layer, self.projected[node.layer], [node.head])[0]

    def contributions(self, layer: int) -> dict[Node, mx.array]:
        """What each sender of a layer writes to the stream, float32 `[rows, T, D]`."""
        heads, found = range(self.graph.heads[layer]), {}
        if heads:
            written = self.heads_written(layer, self.projected[layer], heads)
            found = {Node("head", layer, head): written[head] for head in heads}
        if self.graph.has_mlp[layer]:
            found[Node("mlp", layer)] = self.mlp_written(layer, self.mlps[layer])
        return found

    def heads_written(self, layer: int, projected: mx.array, heads: Iterable[int]) -> mx.array:
        """What heads write to the stream, float32 `[heads, N, T, D]`, when all heads give `[N, T, heads, width]`.

        A bias of the projection is shared by all heads alike, so that all of them make up what the mixer adds.
        """
        return self._writer(layer).heads_written(projected, list(heads))

    def mixer_written(self, layer: int, projected: mx.array) -> mx.array:
        """What the mixer writes to the stream, float32 `[N, T, D]`, when its heads give `[N, T, heads, width]`."""
        given = self.calls[layer].projection()(projected.reshape(*projected.shape[:-2], -1))
        return self.calls[layer].written(mixer=given).astype(mx.float32)

    def heads_apart(self, layer: int) -> bool:
        """Whether a head writes the same whatever the others give: no norm is between them and the stream."""
        return self._writer(layer).kind != "normed"

    def mlp_written(self, layer: int, output: mx.array) -> mx.array:
        """What the MLP writes to the stream, float32 `[N, T, D]`, when it gives this output."""
        return self.calls[layer].written(mlp=output).astype(mx.float32)

    def _writer(self, layer: int) -> HeadWriter:
        if layer not in self._writers:
            self._writers[layer] = HeadWriter(self.calls[layer], self.graph.heads[layer], self.streams[layer])
        return self._writers[layer]

    # ---- what is read

    def stream_of(self, kind: str, layer: int) -> mx.array:
        """The stream `[rows, T, D]` that a layer's reads of a kind read; an MLP's has its layer's heads."""
        if kind != "mlp" or self.graph.parallel[layer] or layer not in self.mixed:
            return self.streams[layer]
        return self.streams[layer] + self.calls[layer].written(mixer=self.mixed[layer])

    def reads(self, layer: int, x: mx.array, parts: Iterable[str] = READS) -> dict[str, mx.array]:
        """What the reads of a layer become when their input is x `[N, T, D]`, N a multiple of the run's rows.

        q, k, v: `[N, T, heads, width]`, as the attention call sees them. mlp: what the site `mlp` has `[N, T, D]`.
        """
        found, wanted = {}, set(parts)
        x = x.astype(self.streams[layer].dtype)
        if wanted & set("qkv") and self.graph.heads[layer]:
            found = dict(zip("qkv", self.calls[layer].attention_inputs(x), strict=True))
        if "mlp" in wanted and self.graph.has_mlp[layer]:
            found["mlp"] = self.calls[layer].mlp_output(x)
        return {part: value for part, value in found.items() if part in wanted}

    def attended(self, layer: int, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        """What the heads of a layer give `[N, T, heads, width]` with these queries, keys and values."""
        x = self.streams[layer]
        x = mx.concatenate([x] * (len(q) // len(x))) if len(q) > len(x) else x
        found = self.calls[layer].projected(x, q, k, v)
        return found.reshape(*found.shape[:-1], self.graph.heads[layer], -1)


def contributions(graph: Graph, run: Rows) -> dict[str, mx.array]:
    """What each sender writes to the stream in a plain run, by its name, float32 `[rows, T, D]`."""
    split = SplitRun(graph, run)
    found = {"embed": split.contribution(Node("embed"))}
    for layer in range(graph.n_layers):
        found |= {node.name: written for node, written in split.contributions(layer).items()}
    return found
