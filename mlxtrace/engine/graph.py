"""The graph of a model for path patching: who writes to the residual stream, who reads it, and how they are named.

    embed   a3.h5   m3   r3                     senders: embedding, head, MLP; r3: the stream that layer 3 reads
    a7.h3.q   a7.h3.k   a7.h3.v   m7   logits   reads: queries by head, keys and values by key-value head, MLPs, logits

    graph = Graph(resolver)
    graph.upstream[i, j]        # whether receiver j reads what sender i has written

These are names and an order, and nothing is run for them but what is measured once per model: `split_reads` runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..anatomy.resolver import ModuleResolver, Site
from ..errors import UnsupportedError
from .layer_records import norm_input, parallel_layers


@dataclass(frozen=True)
class Node:
    """What writes to the residual stream: "embed", "head", "mlp"; or "resid", all that was written before a layer."""

    kind: str
    layer: int = 0
    head: int = 0

    @property
    def name(self) -> str:
        short = {"embed": "embed", "head": f"a{self.layer}.h{self.head}", "mlp": f"m{self.layer}"}
        return short.get(self.kind, f"r{self.layer}")


@dataclass(frozen=True)
class Read:
    """What reads the residual stream: "q", "k" or "v" of a head (k and v by key-value head), "mlp", "logits"."""

    kind: str
    layer: int = 0
    head: int = 0

    @property
    def name(self) -> str:
        if self.kind in "qkv":
            return f"a{self.layer}.h{self.head}.{self.kind}"
        return f"m{self.layer}" if self.kind == "mlp" else "logits"


class Graph:
    """Senders and receivers of a model, in the order of the stream.

    Args:
        resolver: of the model.

    Attributes:
        senders, receivers: every one; sums of the stream (`r3`) are not among the senders.
        upstream: bool `[senders, receivers]`: whether the receiver reads what the sender has written.
        heads, key_value_heads: by layer.
        parallel: by layer, whether its MLP does not read what its heads write.

    Raises:
        UnsupportedError: a layer's heads or reads cannot be told apart, and why.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> from mlxtrace.engine.graph import Graph
        >>> graph = Graph(InterpretableModel("demo").resolver)
        >>> [node.name for node in graph.senders[:2]], graph.receivers[-1].name
        (['embed', 'a0.h0'], 'logits')
    """

    def __init__(self, resolver: ModuleResolver):
        self.resolver, self.n_layers = resolver, resolver.n_layers
        counts = [_heads(resolver, layer) for layer in range(self.n_layers)]
        self.heads, self.key_value_heads = ([pair[i] for pair in counts] for i in (0, 1))
        self.has_mlp = [bool(resolver.layer(layer).mlps) for layer in range(self.n_layers)]
        self.parallel = parallel_layers(resolver)
        self.senders = [
            Node("embed"),
            *(node for layer in range(self.n_layers) for node in self._writing(layer)),
        ]
        self.receivers = [read for layer in range(self.n_layers) for read in self._reading(layer)]
        self.receivers.append(Read("logits", self.n_layers))
        writes = np.array([self.writes_at(node) for node in self.senders])
        self.upstream = writes[:, None] <= np.array([self.reads_at(read) for read in self.receivers])

    def _writing(self, layer: int) -> list[Node]:
        heads = [Node("head", layer, head) for head in range(self.heads[layer])]
        return [*heads, *([Node("mlp", layer)] if self.has_mlp[layer] else [])]

    def _reading(self, layer: int) -> list[Read]:
        counts = {"q": self.heads[layer], "k": self.key_value_heads[layer], "v": self.key_value_heads[layer]}
        found = [Read(kind, layer, head) for kind, n in counts.items() for head in range(n)]
        return [*found, *([Read("mlp", layer)] if self.has_mlp[layer] else [])]

    # ---- the order of the stream

    def writes_at(self, node: Node) -> int:
        """When a sender has written: two steps a layer, its heads and its MLP."""
        return {"embed": 0, "head": 2 * node.layer + 1, "mlp": 2 * node.layer + 2}.get(
            node.kind, 2 * node.layer
        )

    def reads_at(self, read: Read) -> int:
        """When a receiver reads, in the same steps."""
        return 2 * read.layer + (read.kind == "mlp" and not self.parallel[read.layer])

    def group(self, layer: int, head: int) -> int:
        """The key-value head that a query head attends with."""
        return head // (self.heads[layer] // self.key_value_heads[layer])

    def attending(self, read: Read) -> tuple[int, ...]:
        """The heads whose output a read of attention changes: one for queries, a group of them for keys and values."""
        if read.kind == "q":
            return (read.head,)
        return tuple(h for h in range(self.heads[read.layer]) if self.group(read.layer, h) == read.head)


def read_by_logits(resolver: ModuleResolver) -> Site:
    """The stream that the logits are made of: what the final norm is given, or the last layer's output."""
    return resolver.site("resid_post", -1) if resolver.structure.norm is None else norm_input(resolver)


def _heads(resolver: ModuleResolver, index: int) -> tuple[int, int]:
    """Query heads and key-value heads of a layer; (0, 0) where it has no mixer."""
    layer, where = resolver.layer(index), f"layer {index}"
    if layer.slot is None or layer.time_axis != 1:
        raise _refusal(where, layer.no_mid or "its hidden state is not [B, T, width]")
    if not layer.mixers:
        return 0, 0
    if layer.attention is None:
        raise _refusal(where, layer.no_attention)
    if layer.mlps and not layer.summed:
        raise _refusal(where, f"it has no one MLP: {layer.no_mlp}")
    try:
        heads = resolver.site("head", index).heads
    except UnsupportedError as error:
        raise _refusal(where, str(error)) from None
    query, key_value = layer.attention_heads
    if heads != query or query % key_value:
        raise _refusal(where, f"it projects {heads} heads, but attends with {query} and {key_value}")
    return query, key_value


def _refusal(where: str, why: str) -> UnsupportedError:
    return UnsupportedError(f"edges of this model cannot be patched: {where}: {why}")
