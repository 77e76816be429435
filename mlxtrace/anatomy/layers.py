"""One layer as the record of a pass shows it: what it is made of, and where its components are."""

from __future__ import annotations

import dataclasses
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from .contributions import written
from .heads import split_heads
from .layout import Layer
from .middle import middle
from .parts import acts, attention_call, mixers_and_mlps, mixes, projection, reads
from .recording import Call, same
from .routers import find_router

Slot = int | str | None
Paths = dict[str, nn.Module]


def called_layer(
    calls: list[Call], call: Call, slot: Slot, tokens: mx.array, paths: Paths, given_next: mx.array | None
) -> Layer:
    """A layer from the recorded call of its module. given_next: what the next layer was given in its own slot."""
    length = tokens.shape[1]
    inside = calls[call.index + 1 : call.end]
    before = call.hidden_input(slot)
    known = mixers_and_mlps(inside, call.path, length, paths)
    parts = written(calls, call, slot, *known, paths, lambda c: mixes(c, length))
    mixers, mlps = parts.mixers, parts.mlps
    added, no_mid = middle(calls, call, before, parts)
    out_proj = projection(calls, mixers[0], paths) if mixers else None
    return Layer(
        path=call.path,
        visit=call.visit,
        slot=slot,
        time_axis=1 if before.shape[1] == length else before.ndim - 2,
        mixers=tuple(dict.fromkeys(c.path for c in mixers)),
        mlps=tuple(dict.fromkeys(c.path for c in mlps)),
        summed=tuple(c.path for c in parts.summed),
        no_mlp=parts.refused,
        rest=tuple(dict.fromkeys(c.path for c in parts.rest)),
        plain=parts.plain,
        added=added,
        no_mid=no_mid,
        out_proj=out_proj,
        chained=same(given_next, call.hidden()),
        reads=reads(calls, mixers[0], paths) if len(mixers) == 1 else (),
        acts=acts(out_proj, mixers, mlps, length),
        **_neurons(calls, mlps, paths),
        **_attention(calls, mixers),
        **_router(calls, inside, mixers, tokens, paths),
    )


def uncalled_layer(calls: list[Call], path: str, visit: int, tokens: mx.array, paths: Paths) -> Layer:
    """A layer of an architecture that calls the parts of its layers, never the layers themselves."""
    inside = [c for c in calls if c.path.startswith(path + ".") and c.visit == visit]
    mixers, mlps = mixers_and_mlps(inside, path, tokens.shape[1], paths)
    names = [tuple(c.path for c in part) for part in (mixers, mlps)]
    return Layer(
        path=path,
        visit=visit,
        slot=None,
        time_axis=1,
        mixers=names[0],
        mlps=names[1],
        summed=names[1] if len(mlps) == 1 else (),
        no_mlp="" if len(mlps) == 1 else "this layer has several",
        rest=(),
        plain=None,
        added=None,
        no_mid="this architecture calls the parts of a layer, never the layer itself",
        out_proj=projection(calls, mixers[0], paths) if mixers else None,
        chained=False,
        **_neurons(calls, mlps, paths),
        **_router(calls, inside, mixers, tokens, paths),
    )


def _attention(calls: list[Call], mixers: list[Call]) -> dict[str, Any]:
    call, why = attention_call(calls, mixers)
    if call is None:
        return {"no_attention": why}
    return {"attention": call.path, "attention_heads": call.attention[0]}


def _neurons(calls: list[Call], mlps: list[Call], paths: Paths) -> dict[str, Any]:
    """The first MLP's down projection, and how many numbers it is given for each token."""
    path = projection(calls, mlps[0], paths) if mlps else None
    if path is None:
        return {"down_proj": None}
    given = next(c for c in reversed(calls[mlps[0].index + 1 : mlps[0].end]) if c.path == path).inputs()[0]
    return {"down_proj": path, "neurons": given.shape[-1] if given.ndim == 3 else 0}


def _router(
    calls: list[Call], inside: list[Call], mixers: list[Call], tokens: mx.array, paths: Paths
) -> dict[str, Any]:
    found = find_router(calls, inside, mixers, tokens, paths)
    return {"router": found.path, "no_router": found.why, "router_in_rows": found.in_rows}


def with_heads(
    net: nn.Module, tokens: mx.array, calls: list[Call], layers: tuple[Layer, ...], paths: Paths
) -> tuple[Layer, ...]:
    """The layers with what was measured of their heads."""
    found = {(c.path, c.visit): c.index for c in calls}
    mixers: dict[int, int] = {}  # layer -> its mixer's call
    projections: dict[int, str] = {}
    for i, layer in enumerate(layers):
        mixer = found.get((layer.mixers[0], layer.visit)) if len(layer.mixers) == 1 else None
        if layer.out_proj and mixer is not None:
            mixers[i], projections[mixer] = mixer, layer.out_proj
    splits = split_heads(net, tokens, calls, projections, paths)
    return tuple(
        dataclasses.replace(layer, split=splits.get(mixers[i]) if i in mixers else None)
        for i, layer in enumerate(layers)
    )
