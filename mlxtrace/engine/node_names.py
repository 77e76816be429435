"""Nodes and reads by name: "a3.h5", "a7.h3.k", "layers.4.resid_pre", (3, 5), and groups such as "mlp" or "a3".

nodes(graph, "a3")                  # every head of layer 3
reads(graph, "a7.h3")               # one receiver by name: its queries, and the keys and values of its group
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

from ..errors import InputError, PositionError, closest
from .graph import Graph, Node, Read

_SITE = re.compile(r"layers\.(\d+)\.(\w+?)(?:\.(\d+))?$")
_SHORT = re.compile(r"([amr])(\d+)(?:\.h(\d+))?(?:\.([qkv])|<([qkv])>)?$")
_PAIR = re.compile(r"(\d+)\.(\d+)$")  # layer.head, as papers write it
Found = TypeVar("Found", Node, Read)


def is_pair(item: Any) -> bool:
    """Whether something is (layer, head)."""
    return isinstance(item, tuple) and len(item) == 2 and all(map(_is_index, item))


def _is_index(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


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


def reads(graph: Graph, item: Any) -> list[tuple[str, tuple[Read, ...]]]:
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
    if is_pair(item):
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
