"""What a differentiated pass takes in memory: a backward pass holds every layer's arrays, or computes them again."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from . import calibration
from .gradient_pass import Pass, Way, replace

# Buffers that overlap in time need more than is measured on a short prompt.
MARGIN = 1.3
# Attention's scores, as often as they are held at once: of every layer, or of the one that is computed again.
SCORES, SCORES_AGAIN = 2, 4
# How far gradients may move when layers are computed again, relative to the largest: rounding, and no more.
SAME = {mx.float32: 1e-4}
SAME_AT_HALF = 5e-2


def pass_bytes(resolver: Any, way: Way, rows: int, length: int, read: int = 1) -> int:
    """Estimated peak of one forward and backward pass of so many rows, beside what is kept of it.

    read: of how many of the last positions there are logits.
    """
    least, per_token = _token_bytes(resolver, way)
    heads = max((resolver.n_heads(layer) or 1 for layer in range(resolver.n_layers)), default=1)
    held = SCORES_AGAIN if way.checkpointed else SCORES * resolver.n_layers
    vocabulary = 3 * 4 * read * resolver.structure.vocab_size
    return int(least + MARGIN * rows * (per_token * length + 4 * held * heads * length**2 + vocabulary))


def can_checkpoint(resolver: Any, way: Way) -> bool:
    """Whether gradients stay what they are when each layer is computed again for the backward pass.

    Arrays that reach a layer by a side door (keys that an earlier layer left in a cache) would lose theirs.
    """
    return _same_again(resolver, way)


@calibration.per_model
def _same_again(resolver: Any, way: Way) -> bool:
    sites = [site for site in resolver.table.values() if site.layer is not None]
    one = Pass(resolver, calibration.rows_of(resolver, 1), np.arange(1), sites, way)
    zeros, _ = one.zeros()
    try:
        found = [
            run.gradients(_first_logit, zeros)[1]
            for run in (one, replace(one, way=replace(way, checkpointed=True)))
        ]
    except Exception:  # a model that cannot be run this way may fail in any way
        return False
    off = [_relative(found[1][name], found[0][name]) for name in zeros]
    return max(off) <= SAME.get(calibration.compute_dtype(resolver), SAME_AT_HALF)


def _first_logit(logits: mx.array) -> mx.array:
    return logits[:, 0] - mx.logsumexp(logits, axis=-1)


def _relative(a: mx.array, b: mx.array) -> float:
    a, b = a.astype(mx.float32), b.astype(mx.float32)
    return float(np.array(mx.abs(a - b).max() / mx.maximum(mx.abs(b).max(), 1e-20)))


@calibration.per_model
def _token_bytes(resolver: Any, way: Way) -> tuple[float, float]:
    """What a short differentiated pass takes at its peak: bytes at least, and per token."""
    few, more, length = (
        _peak(resolver, way, 2),
        _peak(resolver, way, 10),
        len(calibration.short_ids(resolver)),
    )
    slope = max(more - few, 0) / (8 * length)
    return max(few - 2 * length * slope, 0.0), slope


def _peak(resolver: Any, way: Way, rows: int) -> int:
    first = resolver.site("embed")
    one = Pass(resolver, calibration.rows_of(resolver, rows), np.arange(rows), [first], way)
    zeros, _ = one.zeros()
    with calibration.measured_peak() as peak:
        one.gradients(_first_logit, zeros)
        return peak()
