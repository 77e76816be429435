"""Whether slices of what a mixer projects are its heads: measured by changing one head of every attention call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .attention import attending, plain_attention
from .recording import Call, forward, same, snapshot
from .taps import arrays_of, fresh, tapping


def split_heads(
    net: nn.Module,
    tokens: mx.array,
    calls: list[Call],
    projections: dict[int, str],
    paths: dict[str, nn.Module],
) -> dict[int, int]:
    """By how many heads each projection's input `[B, T, width]` is split; 0 where no slice of it is a head.

    One pass in which the last head of every attention call is changed and every mixer gives what it gave before, so
    that all else stays. projections: of each mixer's recorded call, by its index, the path of what it projects with.
    Mixers that make no attention call, or that were not given what they had been given, are not in the result.
    """
    changed = _ChangedHeads(calls, projections)
    mixers = dict.fromkeys(calls[index].path for index in projections)
    taps = [(paths[path], changed.mixer(path)) for path in mixers]
    taps += [
        (paths[path], changed.project) for path in dict.fromkeys(projections.values()) if path not in mixers
    ]
    with attending(changed.attend), tapping(taps):
        mx.eval(forward(net, tokens))
    found = {}
    for index, x in changed.projected.items():
        if heads := changed.heads.get(index):
            before = _projection_input(calls, calls[index], projections[index])
            found[index] = heads if _only_the_last_moved(before, x, heads) else 0
    return found


class _ChangedHeads:
    """The handlers of that pass, and what they see: by a mixer's index, heads and what is projected."""

    def __init__(self, calls: list[Call], projections: dict[int, str]):
        self.mixers = [calls[index] for index in projections]
        self.visits: Counter[str] = Counter()
        self.running: list[Call] = []
        self.heads: dict[int, int] = {}
        self.projected: dict[int, mx.array] = {}

    def attend(self, q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
        """Attention; inside a mixer the last head is another."""
        out = plain_attention(q, k, v, **options)
        if not self.running:
            return out
        self.heads[self.running[-1].index] = out.shape[1]
        return mx.concatenate([out[:, :-1], 2 * out[:, -1:] + 1], axis=1)

    def mixer(self, path: str) -> Callable[..., Any]:
        """The handler of the mixers at a path: they run, and give what they gave before."""
        known = {call.visit: call for call in self.mixers if call.path == path}

        def handler(forward: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
            call = known.get(self.visits[path])
            self.visits[path] += 1
            if call is None:
                return forward(*args, **kwargs)
            before, now = call.inputs(), [fresh(x) for _, x in arrays_of(args, kwargs)]
            self.running.append(call)
            try:
                forward(*args, **kwargs)
            finally:
                self.running.pop()
            if len(before) != len(now) or not all(map(same, before, now)):
                self.projected.pop(call.index, None)
            return snapshot(call.output)

        return handler

    def project(self, forward: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        """The handler of the projections: inside a mixer, what they are given is kept."""
        if self.running and (given := next(arrays_of(args, kwargs), None)) is not None:
            self.projected[self.running[-1].index] = fresh(given[1])
        return forward(*args, **kwargs)


def _projection_input(calls: list[Call], mixer: Call, path: str) -> mx.array:
    """What a projection inside a recorded mixer was given."""
    return next(c for c in calls[mixer.index : mixer.end] if c.path == path).inputs()[0]


def _only_the_last_moved(before: mx.array, after: mx.array, heads: int) -> bool:
    """Whether of all slices of the last axis only the last has changed."""
    width = before.shape[-1]
    if before.shape != after.shape or width % heads:
        return False
    moved = np.array((after != before).reshape(-1, width).any(axis=0))
    first = width - width // heads
    return bool(moved[first:].any() and not moved[:first].any())
