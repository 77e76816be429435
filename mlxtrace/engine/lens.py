"""The logit lens: vectors of the residual stream as the final norm's input, so that norm, head, caps and scales are
the model's own.

logits, kept = streams(resolver, ids, sites, positions)   # of the run itself [V]; by site name, [1, positions, D]
said = read_all(resolver, kept[name][0], k=5, token=12)   # the likeliest tokens of each position, and one token's rank
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import InputError, UnsupportedError, memory_limit
from . import calibration
from .memory import allowed_bytes
from .runs import Hooks, Keep, ModuleResolver, Run, Site, capture, forward, norm_input, to_numpy
from .top_tokens import Said, joined, read

# Per logit: of one row at a time, which is read in float64 on copies; and of all rows of a pass, in float32 and as they
# are converted.
METRIC_BYTES, ROW_BYTES = 40, 8
MOST_ROWS = 1024  # of one pass


def streams(
    resolver: ModuleResolver, ids: Sequence[int], sites: Sequence[Site], positions: Sequence[int]
) -> tuple[np.ndarray, dict[str, mx.array]]:
    """A plain run's logits after the prompt, `[V]`, and each site's array at some positions: by name, `[1, n, D]`."""
    order = sorted(positions)
    keep = {site.name: Keep(positions=tuple(order)) for site in sites}
    logits, kept = capture(resolver, Run(tuple(ids)), sites, keep=keep, eager=True)
    if order != list(positions):
        places = mx.array([order.index(p) for p in positions])
        kept = {name: mx.take(x, places, axis=1) for name, x in kept.items()}
    return logits[0], kept


def read_out(resolver: ModuleResolver, vectors: mx.array) -> np.ndarray:
    """What norm and head make of vectors `[N, D]`: logits `[N, V]`, float32.

    They are put in the place of what the norm is given in a short pass; its layers, which nothing reads any more, are
    never computed.
    """
    hooks = Hooks(resolver)
    hooks.add(norm_input(resolver), lambda x: vectors[None].astype(x.dtype))
    with hooks.hooked():
        logits = forward(resolver.net, mx.array([calibration.short_ids(resolver)]))
        mx.eval(logits)
    return to_numpy(logits)[0]


def read_all(resolver: ModuleResolver, vectors: mx.array, k: int, token: int, max_memory: Any = None) -> Said:
    """What norm and head make of vectors `[N, D]`, as many at a time as the memory allows.

    Raises:
        InputError: not one fits into `max_memory` bytes, or some logits are NaN.
    """
    allowed, vocab = allowed_bytes(max_memory, resolver.group), resolver.structure.vocab_size
    per_row = vocab * (ROW_BYTES + calibration.compute_dtype(resolver).size)
    if METRIC_BYTES * vocab + per_row > allowed:
        raise InputError(
            f"{memory_limit(allowed)}, but to read one vector as {vocab} logits takes about "
            f"{METRIC_BYTES * vocab + per_row}: allow at least that"
        )
    step = min(MOST_ROWS, (allowed - METRIC_BYTES * vocab) // per_row)
    parts = [read(read_out(resolver, vectors[i : i + step]), k, token) for i in range(0, len(vectors), step)]
    return joined(parts)


def check(resolver: ModuleResolver) -> None:
    """UnsupportedError where norm and head of the last layer's output are not the model's own logits."""
    reason = _reason(resolver)
    if reason:
        raise UnsupportedError(f"this model has no logit lens: {reason}")


@calibration.per_model
def _reason(resolver: ModuleResolver) -> str:
    """Why there is no lens, measured on a short prompt; '' where there is one."""
    ids = calibration.short_ids(resolver)
    try:
        final = norm_input(resolver)
        last = resolver.site("resid_post", resolver.n_layers - 1)
    except UnsupportedError as error:
        return str(error)
    logits, kept = capture(resolver, Run(ids), [last, final], every_position=True)
    shape = (1, len(ids), resolver.structure.d_model)
    for name, x in kept.items():
        if tuple(x.shape) != shape:
            return f"{name} is {list(x.shape)}, not one residual stream [1, tokens, {shape[-1]}]"
    try:
        found = read_out(resolver, kept[last.name][0])
    except Exception as error:  # what comes after a norm may be anything, and fail in any way
        return f"its head cannot be given other vectors ({type(error).__name__}: {str(error)[:160]})"
    if found.shape != logits[0].shape:
        return f"its head makes {list(found.shape)} of {len(ids)} vectors, not {list(logits[0].shape)}"
    off = calibration.beyond_rounding(resolver, found, logits[0])
    return off and f"norm and head of the last layer's output are off its own logits by {off}"
