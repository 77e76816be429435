"""What is measured once per model, so that sweeps can be planned: rounding, time and memory per row."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from .resolver import ModuleResolver
from .runs import Run, capture
from .structure import probe_tokens

# What is measured on a short pass is the least that a row needs; buffers that overlap in time need more.
MARGIN = 1.3
# How far logits may move with the batch's shape, relative to the largest: rounding, and no more.
ROUNDING = {mx.float32: 2e-5, mx.float16: 2e-2, mx.bfloat16: 1e-1}
# What no model's own movement can excuse: above this it is a fault, and not rounding.
CAPS = {mx.float32: 2e-3, mx.float16: 2e-2, mx.bfloat16: 1e-1}


def once(resolver: ModuleResolver, name: str, make: Callable[[], Any]) -> Any:
    """The value that `make` gave for this model the first time."""
    memory = resolver.__dict__.setdefault("_measured", {})
    if name not in memory:
        memory[name] = make()
    return memory[name]


def rows_of(resolver: ModuleResolver, rows: int) -> Run:
    """The probe tokens as a run of some equal rows."""
    ids = tuple(probe_tokens(resolver.structure.vocab_size)[0].tolist())
    return Run(ids, np.zeros((rows, 1, resolver.structure.d_model)), (0,)) if rows > 1 else Run(ids)


def rounding(resolver: ModuleResolver) -> float:
    """How far logits may move, relative to the largest, when only the batch's shape changes."""

    def measure() -> float:
        one, _ = capture(resolver, rows_of(resolver, 1), [])
        three, _ = capture(resolver, rows_of(resolver, 3), [])
        return apart(three, one) / largest(one)

    dtype = compute_dtype(resolver)
    least, most = (table.get(dtype, table[mx.bfloat16]) for table in (ROUNDING, CAPS))
    return min(most, max(least, 10 * once(resolver, "rounding", measure)))


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of two arrays of logits; tokens that a model rules out (-inf) are alike."""
    with np.errstate(invalid="ignore"):
        return float(np.where(a == b, 0, np.abs(a - b)).max())


def largest(logits: np.ndarray) -> float:
    """What errors in logits are measured against: the largest finite one, at least 1."""
    return float(np.abs(logits).max(where=np.isfinite(logits), initial=1.0))


def compute_dtype(resolver: ModuleResolver) -> mx.Dtype:
    """The dtype of the residual stream."""

    def measure() -> mx.Dtype:
        _, kept = capture(resolver, rows_of(resolver, 1), [resolver.site("embed")])
        return kept["embed"].dtype

    return once(resolver, "dtype", measure)


def timing(resolver: ModuleResolver) -> tuple[float, float]:
    """Seconds of a pass of one short row, and seconds more per further token of a wider one."""

    def measure() -> tuple[float, float]:
        def best(rows: int) -> float:
            took = []
            for _ in range(2):
                began = time.perf_counter()
                capture(resolver, rows_of(resolver, rows), [])
                took.append(time.perf_counter() - began)
            return min(took)

        one, nine = best(1), best(9)
        tokens = len(rows_of(resolver, 1).ids)
        return one, max(nine - one, 0.0) / (8 * tokens)

    return once(resolver, "timing", measure)


def row_bytes(resolver: ModuleResolver, ran: int, length: int, every_position: bool = False) -> int:
    """Estimated bytes that one more row of a pass needs at its peak: `ran` tokens that see `length`."""

    def measure() -> float:
        peaks = []
        for rows in (2, 18):
            mx.clear_cache()
            mx.reset_peak_memory()
            before = mx.get_active_memory()
            capture(resolver, rows_of(resolver, rows), [])
            peaks.append(mx.get_peak_memory() - before)
        tokens = len(rows_of(resolver, 1).ids)
        return max(peaks[1] - peaks[0], 0) / (16 * tokens)

    s = resolver.structure
    size = compute_dtype(resolver).size
    per_token = once(resolver, "bytes", measure)
    heads = resolver.n_heads(0) or 1
    attention = 3 * heads * ran * length * 4 if length > 16 else 0
    keys = 4 * (length - ran) * s.d_model * size
    logits = 2 * 4 * s.vocab_size * (ran if every_position or s.norm is None else 1)
    return int(MARGIN * per_token * ran + attention + keys + logits)


def default_memory() -> int:
    """A quarter of what MLX reports as the device's memory, once what is in use is taken off."""
    info = mx.device_info()
    total = info.get("max_recommended_working_set_size") or info.get("memory_size") or 8 << 30
    return max(256 << 20, int(total - mx.get_active_memory()) // 4)
