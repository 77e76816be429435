"""Senders, receivers and chains by name.

    senders(graph, ["embed", "a3", (5, 1), ["a0.h1", "a2.h3.k"]])      # the last one is a chain
    receivers(graph, ["q", "m7", ["a7.h3.k", "a8.h1.k"], "logits"])    # the third is two reads, patched together

A name is that of a `Node` or `Read`, a group of them ("head", "mlp", "q", "a3"), or a site ("layers.3.head.5",
"layers.4.resid_pre"); "+" adds up senders, or puts reads together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from .node_names import Graph, Node, Read, is_pair, nodes
from .node_names import reads as reads_named

ARROW = " > "  # between the members of a chain


@dataclass(frozen=True)
class Receiver:
    """Reads that are patched together, and the senders whose output they change when they are passed through."""

    name: str
    reads: tuple[Read, ...]
    outputs: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Sender:
    """Nodes whose contributions are added up, and the reads that the sum is passed through, one after the other."""

    name: str
    nodes: tuple[Node, ...]
    through: tuple[Receiver, ...] = ()

    @property
    def written(self) -> tuple[Node, ...]:
        """What the stream has from it in the end."""
        return self.through[-1].outputs if self.through else self.nodes


def senders(graph: Graph, given: Any) -> list[Sender]:
    """The senders that are meant: None for all of them, a name, a tuple (layer, head), or a list.

    In a list, a list is a chain: a sender and the reads that it is passed through.

    Raises:
        InputError: a name that is not known, with the closest ones; a chain whose members do not reach each other.
        PositionError: a layer or head that this model has not.
    """
    if given is None:
        return [Sender(node.name, (node,)) for node in graph.senders]
    found = []
    for item in _items("senders", given):
        if isinstance(item, list):
            found.append(_chain(graph, item))
        else:
            found += _summed(graph, item)
    return _different("senders", found)


def receivers(graph: Graph, given: Any) -> list[Receiver]:
    """The receivers that are meant: None for every read, a name, a tuple (layer, head), or a list.

    In a list, a list (or a tuple of names) is one receiver: reads that are patched together.

    Raises:
        InputError: a name that is not known, with the closest ones. PositionError: a layer or head that this model
            has not.
    """
    if given is None:
        return [_receiver(graph, (read,)) for read in graph.receivers]
    found = []
    for item in _items("receivers", given):
        together = isinstance(item, list) or (isinstance(item, tuple) and not is_pair(item))
        found += (
            [_joined([r for one in item for r in _received(graph, one)])]
            if together
            else _received(graph, item)
        )
    return _different("receivers", found)


def _items(what: str, given: Any) -> list[Any]:
    one = isinstance(given, str | Node | Read) or is_pair(given)
    if not one and not isinstance(given, Sequence):
        raise InputError(
            f"{what} are named by strings such as 'a3.h5', tuples (layer, head), or lists, not {given!r}"
        )
    found = list(given) if isinstance(given, Sequence) and not one else [given]
    if not found:
        raise InputError(f"{what} is empty: name one, or leave it out for all")
    return found


def _different(what: str, found: list[Any]) -> list[Any]:
    names = [item.name for item in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{what} name {', '.join(twice)} more than once")
    return found


# ---- chains, sums and reads that are together


def _chain(graph: Graph, item: list[Any]) -> Sender:
    """A sender and the reads that it is passed through."""
    if not item:
        raise InputError(
            "an empty list is no chain: a chain is a sender and the reads that it is passed through"
        )
    first = _summed(graph, item[0])
    if len(first) != 1:
        raise InputError(f"a chain begins with one sender, not {item[0]!r}; add some up with '+'")
    through = []
    for one in item[1:]:
        reads = [r for name in (one if isinstance(one, list) else [one]) for r in _received(graph, name)]
        through.append(_joined(reads) if len(reads) > 1 else reads[0])
    for before, after in zip((first[0].nodes, *(r.outputs for r in through)), through, strict=False):
        if not reaches(graph, before, after.reads):
            names = " and ".join(node.name for node in before) or "the logits"
            raise InputError(
                f"{after.name} does not read what {names} writes: it comes before, in the stream"
            )
    if through and not through[-1].outputs:
        raise InputError("the logits are the last of all reads: name them as a receiver")
    return Sender(ARROW.join([first[0].name, *(r.name for r in through)]), first[0].nodes, tuple(through))


def reaches(graph: Graph, nodes: Sequence[Node], reads: Sequence[Read]) -> bool:
    """Whether each of some reads sees all that some senders write."""
    return bool(nodes) and max(map(graph.writes_at, nodes)) <= min(map(graph.reads_at, reads))


def _summed(graph: Graph, item: Any) -> list[Sender]:
    if not isinstance(item, str) or "+" not in item:
        return [Sender(node.name, (node,)) for node in nodes(graph, item)]
    parts = [node for part in item.split("+") for node in nodes(graph, part.strip())]
    return [Sender(" + ".join(part.strip() for part in item.split("+")), tuple(parts))]


def _received(graph: Graph, item: Any) -> list[Receiver]:
    if isinstance(item, str) and "+" in item:
        return [_joined([r for part in item.split("+") for r in _received(graph, part.strip())])]
    return [_receiver(graph, found, name) for name, found in reads_named(graph, item)]


def _receiver(graph: Graph, reads: tuple[Read, ...], name: str = "") -> Receiver:
    """One receiver of some reads of one head, or of one MLP."""
    first, *others = reads
    outputs: tuple[Node, ...] = ()
    if first.kind == "mlp":
        outputs = (Node("mlp", first.layer),)
    elif others:  # queries, keys and values of one head
        outputs = (Node("head", first.layer, first.head),)
    elif first.kind != "logits":
        outputs = tuple(Node("head", first.layer, head) for head in graph.attending(first))
    return Receiver(name or first.name, reads, outputs)


def _joined(parts: list[Receiver]) -> Receiver:
    if not parts:
        raise InputError("an empty list is no receiver")
    reads = dict.fromkeys(read for part in parts for read in part.reads)
    outputs = dict.fromkeys(node for part in parts for node in part.outputs)
    return Receiver(" + ".join(part.name for part in parts), tuple(reads), tuple(outputs))
