"""The ends of an edge, by the names that edges have: what writes to the stream, and one read of it.

`Sender.named("a2.h1", rules)`, `Read.named("a3.h0.k", rules)`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InputError
from .rules import HEADS, Rules


@dataclass(frozen=True)
class Read:
    """A read of the stream: kind "q", "k" or "v" of a head, "m" of an MLP, or "logits"."""

    kind: str
    layer: int
    head: int | None = None

    @classmethod
    def named(cls, name: str, rules: Rules) -> Read:
        """From its name: "a2.h1.q", "m2" or "logits"."""
        if name == "logits":
            return cls("logits", len(rules.layers))
        layer, head, kind = _numbers(r"(?:a(\d+)\.h(\d+)\.([qkv])|m(\d+))", name, rules)
        return cls(kind or "m", layer, head)


@dataclass(frozen=True)
class Sender:
    """What writes to the stream: kind "a" a head, "m" an MLP, "embed", or "r" all that was written before a layer."""

    kind: str
    layer: int
    head: int | None = None

    @classmethod
    def named(cls, name: str, rules: Rules) -> Sender:
        """From its name: "embed", "a2.h1", "m2" or "r2"."""
        if name == "embed":
            return cls("embed", 0)
        layer, head, _ = _numbers(r"(?:a(\d+)\.h(\d+)()|[mr](\d+))", name, rules)
        return cls(name[0], layer, head)

    def is_before(self, read: Read) -> bool:
        """Whether what it writes is in the stream when it is read."""
        stages = {"embed": 0, "r": 0, "a": 1, "m": 2}
        reads = {"q": 0.5, "k": 0.5, "v": 0.5, "m": 1.5, "logits": 0.0}
        return (self.layer, stages[self.kind]) < (read.layer, reads[read.kind])


def _numbers(form: str, name: str, rules: Rules) -> tuple[int, int | None, str]:
    """The layer, the head and the kind that a name says."""
    found = re.fullmatch(form, name)
    if found:
        of_head, head, kind, of_mlp = found.groups()
        layer = int(of_mlp if of_head is None else of_head)
        if layer < len(rules.layers) and int(head or 0) < HEADS:
            return layer, None if head is None else int(head), kind or ""
    raise InputError(
        f"{name!r} is no end of an edge: senders are embed, a0.h0, m0 and r0, receivers a0.h0.q (or k, v), m0 and "
        f"logits, of {len(rules.layers)} layers with {HEADS} heads"
    )


def all_edges(rules: Rules) -> list[tuple[str, str]]:
    """The names of all edges: senders in the order of the stream, each with the reads that come after it."""
    layers, heads = range(len(rules.layers)), range(HEADS)
    senders, receivers = ["embed"], []
    for i in layers:
        senders += [*(f"a{i}.h{h}" for h in heads), f"m{i}"]
        receivers += [*(f"a{i}.h{h}.{kind}" for h in heads for kind in "qkv"), f"m{i}"]
    receivers.append("logits")
    ends = {name: Read.named(name, rules) for name in receivers}
    return [
        (sender, receiver)
        for sender in senders
        for receiver in receivers
        if Sender.named(sender, rules).is_before(ends[receiver])
    ]
