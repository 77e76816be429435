"""Whether slices of what a mixer projects are its heads: measured by changing one head of every attention call."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from .attention import attending, plain_attention
from .recording import Call, forward, same, snapshot
from .taps import arrays_of, fresh, tapping


def split_heads(
    net: nn.Module, tokens: mx.array, calls: list[Call], projections: dict[int, str], paths: dict
) -> dict[int, int]:
    """By how many heads each projection's input `[B, T, width]` is split; 0 where no slice of it is a head.

    One pass in which the last head of every attention call is changed and every mixer gives what it gave before, so
    that all else stays. projections: of each mixer's recorded call, by its index, the path of what it projects with.
    Mixers that make no attention call, or that were not given what they had been given, are not in the result.
    """
    turns: dict[str, list[Call]] = {}
    for index in projections:
        turns.setdefault(calls[index].path, []).append(calls[index])
    inside: list[Call] = []  # the mixer that is running
    heads: dict[int, int] = {}
    given: dict[int, mx.array] = {}

    def attention(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
        out = plain_attention(q, k, v, **options)
        if not inside:
            return out
        heads[inside[-1].index] = out.shape[1]
        return mx.concatenate([out[:, :-1], 2 * out[:, -1:] + 1], axis=1)

    def mixer_handler(path: str):
        visits = iter(range(1 << 30))
        known = {call.visit: call for call in turns[path]}

        def handler(forward, args, kwargs):
            call = known.get(next(visits))
            if call is None:
                return forward(*args, **kwargs)
            before, now = call.inputs(), [x for _, x in arrays_of(args, kwargs)]
            alike = len(before) == len(now) and all(same(a, b) for a, b in zip(before, now, strict=True))
            inside.append(call)
            try:
                forward(*args, **kwargs)
            finally:
                inside.pop()
            if not alike:
                given.pop(call.index, None)
            return snapshot(call.output)

        return handler

    def projected(forward, args, kwargs):
        if inside and (x := next(arrays_of(args, kwargs), None)) is not None:
            given[inside[-1].index] = fresh(x[1])
        return forward(*args, **kwargs)

    taps = [(paths[path], mixer_handler(path)) for path in turns]
    taps += [(paths[path], projected) for path in dict.fromkeys(projections.values()) if path not in turns]
    with attending(attention), tapping(taps):
        mx.eval(forward(net, tokens))
    return {
        index: heads[index] if _apart(_input(calls, calls[index], projections[index]), x, heads[index]) else 0
        for index, x in given.items()
        if index in heads
    }


def _input(calls: list[Call], mixer: Call, path: str) -> mx.array:
    """What a projection inside a recorded mixer was given."""
    return next(c for c in calls[mixer.index : mixer.end] if c.path == path).inputs()[0]


def _apart(before: mx.array, after: mx.array, heads: int) -> bool:
    """Whether of all slices of the last axis only the last has moved."""
    width = before.shape[-1]
    if before.shape != after.shape or width % heads:
        return False
    moved = (after != before).reshape(-1, width).any(axis=0).tolist()
    first = width - width // heads
    return any(moved[first:]) and not any(moved[:first])
