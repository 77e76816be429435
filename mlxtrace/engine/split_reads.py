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
import mlx.nn as nn
import numpy as np

from ..anatomy.recording import forward
from ..anatomy.taps import fresh
from ..errors import UnsupportedError
from .graph import Graph, Node, read_by_logits
from .layer_calls import record_calls
from .runs import Hooks, Rows, slice_to_last, to_numpy

READS = ("q", "k", "v", "mlp")


class SplitRun:
    """A plain run, with what its senders write and with its layers to be run again on other inputs.

    Args:
        graph: of the model.
        run: the rows that are run.

    Attributes:
        streams: by layer, what it is given `[rows, T, D]`; after the last layer's, what the logits are made of.
        mixed: by layer, what its mixer gives. projected: what its heads give `[rows, T, heads, width]`. mlps: what
            the site `mlp` has.
        logits: the last position's, float32 `[rows, V]`.
    """

    def __init__(self, graph: Graph, run: Rows):
        self.graph, self.resolver, self.run = graph, graph.resolver, run
        self.streams: list[mx.array] = []
        self.mixed: dict[int, mx.array] = {}
        self.projected: dict[int, mx.array] = {}
        self.mlps: dict[int, mx.array] = {}
        self._writers: dict[int, _Writer] = {}
        hooks, rows = Hooks(self.resolver), np.arange(run.rows)
        hooks.add(self.resolver.site("embed"), lambda x: run.embedded(fresh(x), rows))
        self.calls = record_calls(hooks)
        self._keep(hooks)
        slice_to_last(hooks)
        with hooks.hooked():
            logits = forward(self.resolver.net, run.tokens(rows))[..., -1, :]
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
        path = self.graph.resolver.layer(layer).out_proj
        assert path is not None, "only layers whose heads are known are asked"
        given = self.resolver.paths[path](projected.reshape(*projected.shape[:-2], -1))
        return self.calls[layer].written(mixer=given).astype(mx.float32)

    def heads_apart(self, layer: int) -> bool:
        """Whether a head writes the same whatever the others give: no norm is between them and the stream."""
        return self._writer(layer).kind != "normed"

    def mlp_written(self, layer: int, output: mx.array) -> mx.array:
        """What the MLP writes to the stream, float32 `[N, T, D]`, when it gives this output."""
        return self.calls[layer].written(mlp=output).astype(mx.float32)

    def _writer(self, layer: int) -> _Writer:
        if layer not in self._writers:
            self._writers[layer] = _Writer(self, layer)
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


class _Writer:
    """How the mixer's output gets into the stream of one layer: as it is, times a factor, or through a norm.

    Through a norm each head is given the part of the norm's output that it makes up, at the run's own scale.
    """

    def __init__(self, run: SplitRun, layer: int):
        call, graph = run.calls[layer], run.graph
        path = call.layer.out_proj
        assert path is not None, "only layers whose heads are known are asked"
        self.call, self.heads, self.projection = call, graph.heads[layer], run.resolver.paths[path]
        width = run.streams[layer].shape
        y = mx.random.normal(width, key=mx.random.key(3)).astype(run.streams[layer].dtype)
        once, twice = (call.written(mixer=times * y).astype(mx.float32) for times in (1, 2))
        nothing = call.written(mixer=mx.zeros_like(y))
        self.kind, self.gain = "sum", mx.ones((1, 1, width[-1]))
        if mx.any(nothing != 0):
            raise UnsupportedError(
                f"edges of this model cannot be patched: layer {layer} adds something of its own"
            )
        if mx.array_equal(once, y.astype(mx.float32)):
            return
        if mx.array_equal(2 * once, twice):
            self.kind = "scaled"
            return
        self.kind = "normed"
        large = mx.full(width, 1e4, dtype=y.dtype)
        self.gain = call.written(mixer=large).astype(mx.float32)[:1, :1]
        expected = self._scale(y, once) * self.gain * y.astype(mx.float32)
        if mx.abs(expected - once).max() > 2e-2 * mx.abs(once).max():
            raise UnsupportedError(
                f"edges of this model cannot be patched: what layer {layer} adds is no sum over its heads"
            )

    def _scale(self, y: mx.array, written: mx.array) -> mx.array:
        """The norm's scale for each token `[..., T, 1]`."""
        before = self.gain * y.astype(mx.float32)
        return (written * before).sum(-1, keepdims=True) / mx.maximum(
            (before * before).sum(-1, keepdims=True), 1e-30
        )

    def heads_written(self, projected: mx.array, heads: list[int]) -> mx.array:
        each = self._projected_apart(projected, heads)
        if self.kind == "sum":
            return each.astype(mx.float32)
        if self.kind == "scaled":
            flat = each.reshape(-1, *each.shape[2:])
            return self.call.written(mixer=flat).astype(mx.float32).reshape(each.shape)
        whole = self.projection(projected.reshape(*projected.shape[:-2], -1))
        scale = self._scale(whole, self.call.written(mixer=whole).astype(mx.float32))
        return each.astype(mx.float32) * self.gain * scale

    def _projected_apart(self, projected: mx.array, heads: list[int]) -> mx.array:
        """What the projection gives for each head alone `[heads, N, T, D]`, its bias shared by all heads."""
        if type(self.projection) is nn.Linear:
            weight = self.projection.weight
            weight = weight.reshape(weight.shape[0], self.heads, -1)[:, mx.array(heads)]
            each = mx.einsum("nthw,dhw->hntd", projected[:, :, mx.array(heads)], weight)
            bias = self.projection.get("bias")
            return each if bias is None else each + bias / self.heads
        alone = (mx.arange(self.heads) == mx.array(heads)[:, None])[:, None, None, :, None]
        inputs = mx.where(alone, projected[None], 0)
        nothing = self.projection(mx.zeros_like(inputs[:1, :1, :1].reshape(1, 1, -1)))
        flat = inputs.reshape(-1, inputs.shape[2], self.heads * inputs.shape[-1])
        each = self.projection(flat).reshape(*inputs.shape[:3], -1)
        return each - nothing + nothing / self.heads
