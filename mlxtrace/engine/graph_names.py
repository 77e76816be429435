"""Senders, receivers and chains by name.

    senders(graph, ["embed", "a3", (5, 1), ["a0.h1", "a2.h3.k"]])      # the last one is a chain
    receivers(graph, ["q", "m7", ["a7.h3.k", "a8.h1.k"], "logits"])    # the third is two reads, patched together

A name is that of a `Node` or `Read`, a group of them ("head", "mlp", "q", "a3"), or a site ("layers.3.head.5",
"layers.4.resid_pre"); "+" adds up senders, or puts reads together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import InputError, PositionError, closest
from .graph import Graph, Node, Read

ARROW = " > "  # between the members of a chain
_SITE = re.compile(r"layers\.(\d+)\.(\w+?)(?:\.(\d+))?$")
_SHORT = re.compile(r"([amr])(\d+)(?:\.h(\d+))?(?:\.([qkv])|<([qkv])>)?$")
_PAIR = re.compile(r"(\d+)\.(\d+)$")  # layer.head, as papers write it
Found = TypeVar("Found", Node, Read)


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
        together = isinstance(item, list) or (isinstance(item, tuple) and not _is_pair(item))
        found += (
            [_joined([r for one in item for r in _received(graph, one)])]
            if together
            else _received(graph, item)
        )
    return _different("receivers", found)


def _items(what: str, given: Any) -> list[Any]:
    one = isinstance(given, str | Node | Read) or _is_pair(given)
    if not one and not isinstance(given, Sequence):
        raise InputError(
            f"{what} are named by strings such as 'a3.h5', tuples (layer, head), or lists, not {given!r}"
        )
    found = list(given) if isinstance(given, Sequence) and not one else [given]
    if not found:
        raise InputError(f"{what} is empty: name one, or leave it out for all")
    return found


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and all(_is_index(i) for i in item)


def _is_index(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


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
    return [_receiver(graph, found, name) for name, found in _reads(graph, item)]


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


# ---- single names


def nodes(graph: Graph, item: Any) -> list[Node]:
    """The senders that one name means: itself, or all of a group."""
    if isinstance(item, Node):
        return [_existing(graph, item)]
    place = _place(graph, item, resid=True)
    if place is None:
        groups = {
            "embed": "embed",
            "input": "embed",
            "head": "head",
            "heads": "head",
            "mlp": "mlp",
            "mlps": "mlp",
        }
        if item not in groups:
            raise _unknown("sender", item, [node.name for node in graph.senders], ["head", "mlp", "r0", "r1"])
        return [node for node in graph.senders if node.kind == groups[item]]
    kind, layer, head, part = place
    if part:
        raise InputError(f"{item!r} is a read, and no sender: name the head, a{layer}.h{head or 0}")
    if kind == "resid":
        return [Node("resid", layer)]
    found = [
        n for n in graph.senders if (n.kind, n.layer) == (kind, layer) and (head is None or n.head == head)
    ]
    if not found:
        raise PositionError(_missing(graph, kind, layer, head))
    return found


def _reads(graph: Graph, item: Any) -> list[tuple[str, tuple[Read, ...]]]:
    """The receivers that one name means, each by its name and reads."""
    if isinstance(item, Read):
        return [(item.name, (_existing(graph, item),))]
    place = _place(graph, item, resid=False)
    if place is None:
        kinds = {"mlp": "mlp", "mlps": "mlp", "logits": "logits", "q": "q", "k": "k", "v": "v"}
        if item in ("head", "heads"):
            every = [node for node in graph.senders if node.kind == "head"]
            return [(node.name, _of_head(graph, node.layer, node.head)) for node in every]
        if not isinstance(item, str) or item not in kinds:
            raise _unknown(
                "receiver", item, [read.name for read in graph.receivers], ["q", "k", "v", "mlp", "head"]
            )
        return [(read.name, (read,)) for read in graph.receivers if read.kind == kinds[item]]
    kind, layer, head, part = place
    if kind == "head" and not part:
        heads = range(graph.heads[layer]) if head is None else [head]
        if not heads or (head is not None and head >= graph.heads[layer]):
            raise PositionError(_missing(graph, kind, layer, head))
        return [(f"a{layer}.h{h}", _of_head(graph, layer, h)) for h in heads]
    wanted = part or kind
    found = [
        r
        for r in graph.receivers
        if (r.kind, r.layer) == (wanted, layer) and (head is None or r.head == head)
    ]
    if not found:
        raise PositionError(_missing(graph, wanted, layer, head))
    return [(read.name, (read,)) for read in found]


def _of_head(graph: Graph, layer: int, head: int) -> tuple[Read, ...]:
    """The queries of a head, and the keys and values that it attends with."""
    shared = graph.group(layer, head)
    return Read("q", layer, head), Read("k", layer, shared), Read("v", layer, shared)


def _place(graph: Graph, item: Any, resid: bool) -> tuple[str, int, int | None, str] | None:
    """Kind, layer, head and part ("q", "k", "v" or "") of a name with a layer; None for a name without."""
    if _is_pair(item):
        layer, head, kind, part = int(item[0]), int(item[1]), "head", ""
    elif not isinstance(item, str):
        return None
    elif match := _PAIR.match(item):
        layer, head, kind, part = int(match[1]), int(match[2]), "head", ""
    elif match := _SHORT.match(item):
        kind = {"a": "head", "m": "mlp", "r": "resid"}[match[1]]
        layer, head, part = int(match[2]), _number(match[3]), match[4] or match[5] or ""
        if kind != "head" and (part or head is not None):
            return None
    elif match := _SITE.match(item):
        layer, head, found = int(match[1]), _number(match[3]), _component(match[2])
        if found is None:
            return None
        kind, part, later = found
        layer += later
    else:
        return None
    if kind == "resid" and not resid:
        raise InputError(f"{item!r} is a sum, and nothing that reads it: name q, k, v, an MLP or the logits")
    most = graph.n_layers + (kind == "resid") - 1
    if not 0 <= layer <= most:
        raise PositionError(
            f"{item!r}: layer {layer} does not exist: this model has layers 0 to {graph.n_layers - 1}"
        )
    return kind, layer, head, part


def _component(name: str) -> tuple[str, str, int] | None:
    """Kind and part of a component of a layer, and 1 where it is the next layer's."""
    known = {
        "head": ("head", "", 0),
        "attn": ("head", "", 0),
        "self_attn": ("head", "", 0),
        "mlp": ("mlp", "", 0),
    }
    known |= {"resid_pre": ("resid", "", 0), "resid_post": ("resid", "", 1), "output": ("resid", "", 1)}
    return known.get(name, ("head", name, 0) if name in ("q", "k", "v") else None)


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _existing(graph: Graph, item: Found) -> Found:
    known = graph.receivers if isinstance(item, Read) else graph.senders
    if item not in known and not (item.kind == "resid" and 0 <= item.layer <= graph.n_layers):
        raise PositionError(f"{item.name} does not exist in this model")
    return item


def _missing(graph: Graph, kind: str, layer: int, head: int | None) -> str:
    if kind == "mlp":
        return f"m{layer} does not exist: layer {layer} has no MLP"
    n = graph.key_value_heads[layer] if kind in ("k", "v") else graph.heads[layer]
    if not n:
        return f"layer {layer} has no heads"
    return f"a{layer}.h{head}{'.' + kind if kind in 'qkv' else ''} does not exist: it has heads 0 to {n - 1}"


def _unknown(what: str, item: Any, names: list[str], groups: list[str]) -> InputError:
    return InputError(f"{what} {item!r} is unknown; {closest(str(item), [*names, *groups])}")
