"""What attention takes: timed on the calls that a model makes of it, by layer and by how sweeps call it."""

from __future__ import annotations

import functools
import time
from typing import Any

import mlx.core as mx
import numpy as np

from ..anatomy.attention_parts import attend, attending, hook_of, plain_attention
from . import calibration

# Scores that are timed at once: at least so many, in several rows, that the call itself is a small part of it; and no
# more of a row than these, which no cache holds.
FEWEST_SCORES, MOST_SCORES = 1 << 16, 1 << 24


def attention_times(hooks: calibration.Hooks, ids: list[int], way: int) -> np.ndarray:
    """Seconds for a pair of tokens `[layers]`, called in one way; 0 where there is no attention.

    way: 0, as it is: a pair is one of `calibration.seen`, otherwise any two tokens are one. 1, looked into (queries,
    keys or values): all scores are there at once. 2, its patterns are looked at. One way at a time: what is timed
    takes no more memory than what is planned.

    hooks: of a plain pass, whose attention is timed and gives nothing; what else can be skipped they skip.
    """
    resolver, layer = hooks.resolver, [0]
    found, kinds = np.zeros(resolver.n_layers), {}

    def timed(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
        mask = options.get("mask")
        if isinstance(mask, mx.array):  # windows are told apart by how much is seen
            mask = (*mask.shape, mask.sum().item() if mask.dtype == mx.bool_ else mask.dtype)
        kind = q.shape, k.shape, v.shape, q.dtype, mask
        if kind not in kinds:
            keys = len(ids) if way else calibration.seen(resolver, 0, len(ids))
            kinds[kind] = _of_row(q, k, v, options, way) / (len(ids) * keys)
        found[layer[0]] += kinds[kind]
        return mx.zeros((*q.shape[:-1], v.shape[-1]), q.dtype)

    def enters(index: int, x: mx.array) -> mx.array:
        layer[0] = index
        return x

    for index, info in enumerate(resolver.structure.layers):
        if info.slot is not None:
            hooks.add(resolver.site("resid_pre", index), functools.partial(enters, index))
    calibration.slice_to_last(hooks)
    with hooks.hooked(), attending(timed):
        mx.eval(calibration.forward(resolver.net, mx.array([ids])))
    return found


def _of_row(q: mx.array, k: mx.array, v: mx.array, options: dict[str, Any], way: int) -> float:
    """Seconds of one row of a call."""
    (_, heads, length, _), keys, mask = q.shape, k.shape[2], options.get("mask")
    few = max(1, min(length, MOST_SCORES // (heads * keys))) if way else length
    rows = max(1, FEWEST_SCORES // (heads * length * keys))
    if isinstance(mask, mx.array) and mask.ndim > 1 and mask.shape[-2] == length:
        mask = mask[..., -few:, :]
    q, k, v = (mx.repeat(x, rows, axis=0) for x in (q[:, :, -few:], k, v))
    mx.eval(q, k, v, mask if isinstance(mask, mx.array) else q)
    patterns = hook_of(lambda name, x: x + 0, lambda name: name == "pattern")
    call = (attend, plain_attention, patterns)[way]
    return _least(call, q, k, v, **{**options, "mask": mask}) * length / few / rows


def _least(call: Any, *arrays: mx.array, **options: Any) -> float:
    took = []
    for _ in range(3):
        began = time.perf_counter()
        mx.eval(call(*arrays, **options))
        took.append(time.perf_counter() - began)
    return min(took)
