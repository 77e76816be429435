"""What is measured once per model, so that sweeps can be planned: rounding, time and memory per row."""

from __future__ import annotations

import contextlib
import functools
import gc
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Concatenate, ParamSpec, TypeVar

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import make_prompt_cache

from ..anatomy.attention import plain_attention
from ..anatomy.recording import forward, probe_tokens
from ..anatomy.resolver import ModuleResolver, Site
from ..errors import EngineError
from .runs import Hooks, Run, capture, norm_input, slice_to_last

# What is measured on a short pass is the least that a row needs; buffers that overlap in time need more.
MARGIN = 1.15
# Attention's scores, as often as they are held at once: where a model computes them itself, and what is added where
# patterns are looked at.
SCORES, PATTERNS = 3, 5
# How far logits may move with the batch's shape, relative to the largest: rounding, and no more.
ROUNDING = {mx.float32: 2e-5, mx.float16: 2e-2, mx.bfloat16: 1e-1}
# What no model's own movement can excuse: above this it is a fault, and not rounding.
CAPS = {mx.float32: 2e-3, mx.float16: 2e-2, mx.bfloat16: 1e-1}


Given = ParamSpec("Given")
Found = TypeVar("Found")


def per_model(
    measure: Callable[Concatenate[ModuleResolver, Given], Found],
) -> Callable[Concatenate[ModuleResolver, Given], Found]:
    """Measure a model once: what was found stays in `resolver.measured` until the model's arrays are others."""

    @functools.wraps(measure)
    def remembered(resolver: ModuleResolver, *args: Given.args, **kwargs: Given.kwargs) -> Found:
        key = measure.__module__, measure.__qualname__, args, tuple(kwargs.items())
        if key not in resolver.measured:
            resolver.measured[key] = measure(resolver, *args, **kwargs)
        return resolver.measured[key]

    return remembered


def short_ids(resolver: ModuleResolver) -> tuple[int, ...]:
    """The token ids of the short prompt that everything is measured on."""
    ids = np.array(probe_tokens(resolver.structure.vocab_size))[0].tolist()
    return tuple(ids[: resolver.structure.max_length])


def rows_of(resolver: ModuleResolver, rows: int) -> Run:
    """The short prompt as a run of some equal rows: noise at no position makes rows, and changes none."""
    ids = short_ids(resolver)
    return Run(ids, np.zeros((rows, 0, resolver.structure.d_model))) if rows > 1 else Run(ids)


def rounding(resolver: ModuleResolver) -> float:
    """How far logits may move, relative to the largest, when only the batch's shape changes."""
    dtype = compute_dtype(resolver)
    least, most = (table.get(dtype, table[mx.bfloat16]) for table in (ROUNDING, CAPS))
    return min(most, max(least, 10 * _moved_by_company(resolver)))


@per_model
def _moved_by_company(resolver: ModuleResolver) -> float:
    """How far the logits of a row move with two more rows beside it, relative to the largest."""
    one, _ = capture(resolver, rows_of(resolver, 1), [])
    three, _ = capture(resolver, rows_of(resolver, 3), [])
    return largest_difference(three, one) / largest_logit(one)


def beyond_rounding(resolver: ModuleResolver, logits: np.ndarray, right: np.ndarray) -> str:
    """How far logits are from the right ones, when it is more than rounding explains; '' when it is not."""
    off, limit = largest_difference(logits, right), rounding(resolver) * largest_logit(right)
    return "" if off <= limit else f"{off:.3g}, where rounding explains {limit:.3g}"


def largest_difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of two arrays of logits; tokens that a model rules out (-inf) are alike."""
    with np.errstate(invalid="ignore"):
        return float(np.where(a == b, 0, np.abs(a - b)).max())


def largest_logit(logits: np.ndarray) -> float:
    """What errors in logits are measured against: the largest finite one, at least 1."""
    return float(np.abs(logits).max(where=np.isfinite(logits), initial=1.0))


@per_model
def compute_dtype(resolver: ModuleResolver) -> mx.Dtype:
    """The dtype of the residual stream."""
    _, kept = capture(resolver, rows_of(resolver, 1), [resolver.site("embed")])
    return kept["embed"].dtype


@per_model
def timing(resolver: ModuleResolver) -> tuple[float, float]:
    """Seconds of a pass of one short row, and seconds more per further token of a wider one."""

    def best(rows: int) -> float:
        took = []
        for _ in range(2):
            began = time.perf_counter()
            capture(resolver, rows_of(resolver, rows), [])
            took.append(time.perf_counter() - began)
        return min(took)

    one, nine = best(1), best(9)
    return one, max(nine - one, 0.0) / (8 * len(short_ids(resolver)))


@per_model
def token_bytes(resolver: ModuleResolver) -> tuple[float, float, float, float]:
    """What a short plain pass takes at its peak: bytes at least, and per token, up to the final norm; and the same
    of norm and head (per token that goes through them).
    """
    few, more, length = _peaks(resolver, 2), _peaks(resolver, 10), len(short_ids(resolver))
    found = []
    for a, b, tokens in zip(few, more, (length, 1) if len(few) > 1 else (length,), strict=True):
        slope = max(b - a, 0) / (8 * tokens)
        found += [max(a - 2 * tokens * slope, 0.0), slope]
    body, per_token, *head = found
    head, per_read = head or (0.0, 0.0)
    return body, per_token, head, per_read


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Measure a peak without the garbage collector: what it lets go of meanwhile would be missing from the peak."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@undisturbed()
def _peaks(resolver: ModuleResolver, rows: int) -> list[int]:
    """The peak bytes of a plain pass up to the final norm, where there is one, and after it."""
    tokens, marks, hooks = mx.array([short_ids(resolver)] * rows), [], Hooks(resolver)

    def mark(x: mx.array) -> mx.array:
        mx.eval(x)
        marks.append(mx.get_peak_memory() - before)
        mx.reset_peak_memory()
        return x

    if resolver.structure.norm is not None:
        hooks.add(norm_input(resolver), mark)
        slice_to_last(hooks)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    with hooks.hooked():
        logits = forward(resolver.net, tokens)[..., -1, :]
        mx.eval(logits)
    return [*marks, mx.get_peak_memory() - before]


def scores_bytes(resolver: ModuleResolver) -> float:
    """Bytes that attention takes for each pair of query and key, per head."""
    if not all(layer.attention or not layer.mixers for layer in resolver.structure.layers):
        return SCORES * 4
    return MARGIN * max(_measured_scores(resolver), compute_dtype(resolver).size)


@per_model
@undisturbed()
def _measured_scores(resolver: ModuleResolver) -> float:
    x = mx.zeros((1, 1, 128, 32), compute_dtype(resolver))
    mx.eval(x)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(plain_attention(x, x, x, scale=1.0, mask="causal"))
    return (mx.get_peak_memory() - before) / 128**2


def site_bytes(resolver: ModuleResolver, site: Site, positions: int, length: int) -> int:
    """Bytes of one row of a site's array at so many positions of a prompt of `length` tokens."""
    heads, per_token, size = _sizes(resolver, site)
    return heads * positions * length * size if site.side == "pattern" else per_token * positions


@per_model
def _sizes(resolver: ModuleResolver, site: Site) -> tuple[int, int, int]:
    """Of a site's array: the heads of a pattern, bytes per token, bytes per number. Nothing is computed for it."""
    found, ids, hooks = [], short_ids(resolver), Hooks(resolver)

    def note(x: mx.array) -> mx.array:
        found.append((x.shape[1], math.ceil(x.nbytes / len(ids)), x.itemsize))
        return x

    hooks.add(site, note)
    with hooks.hooked():
        forward(resolver.net, mx.array([ids]))
    if not found:
        raise EngineError(f"the pass never reached {site.name}, so it cannot be patched")
    return found[-1]


def pass_bytes(
    resolver: ModuleResolver, rows: int, ran: int, length: int, sites: Iterable[Site] = (), read: int = 1
) -> int:
    """Estimated peak of a pass of so many rows: `ran` tokens each that see `length`, edited or read at `sites`.

    read: the positions whose logits are wanted; 0 for none.
    """
    s, size = resolver.structure, compute_dtype(resolver).size
    least, per_token, head_least, per_read = token_bytes(resolver)
    scores = scores_bytes(resolver) * (resolver.n_heads(0) or 1) * ran * length
    keys = 4 * (length - ran) * s.d_model * size
    edits = max((_edit_bytes(resolver, site, ran, length) for site in sites), default=0)
    body = least + rows * (MARGIN * per_token * ran + scores + keys + edits)
    if not read:
        return int(body)
    read = ran if s.norm is None else read
    as_float32 = 8 if size < 4 else 4  # in NumPy, beside what it is converted from
    logits = max(per_read, s.vocab_size * size) + s.vocab_size * as_float32
    return int(max(body, head_least + rows * read * logits))


def _edit_bytes(resolver: ModuleResolver, site: Site, ran: int, length: int) -> int:
    """What looking at a site and writing it takes beside the model's own arrays, per row."""
    if site.side == "pattern":  # scores, their mask, weights, the changed ones, in float32
        heads = _sizes(resolver, site)[0]
        return PATTERNS * 4 * heads * ran * length
    copies = 6 if site.bases else 3
    return copies * site_bytes(resolver, site, ran, length)


def cache_bytes(resolver: ModuleResolver, length: int) -> int:
    """Keys and values of one row of `length` tokens in all layers."""
    return length * _cached_token(resolver)


@per_model
def _cached_token(resolver: ModuleResolver) -> int:
    caches = make_prompt_cache(resolver.net)
    forward(resolver.net, mx.array([short_ids(resolver)]), caches)
    arrays = (x for cache in caches for x in (cache.keys, cache.values))
    return sum(x.nbytes // x.shape[2] for x in arrays)
