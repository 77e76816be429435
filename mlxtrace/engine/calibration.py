"""What is measured once per model, so that sweeps can be planned: rounding, time and memory per row."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import make_prompt_cache

from ..anatomy.attention_parts import (
    IN_CACHE,
    IN_MEMORY,
    LONG,
    attend,
    attending,
    on_processor,
    plain_attention,
)
from ..anatomy.recording import forward, probe_tokens
from ..anatomy.resolver import ModuleResolver, Site
from ..errors import EngineError
from .memory import agreed, measured_peak
from .runs import Hooks, Run, capture, norm_input, slice_to_last
from .runs import to_numpy as to_numpy

# What is measured on a short pass is the least that a row needs; buffers that overlap in time need more.
MARGIN = 1.15
# How often attention's scores are held at once where a model computes them itself; more where patterns are looked at.
SCORES, PATTERNS = 3, 5
# How far logits may move with the batch's shape, relative to the largest: rounding, and no more.
ROUNDING = {mx.float32: 2e-5, mx.float16: 2e-2, mx.bfloat16: 1e-1}
# What no model's own movement can excuse: it is a fault, and not rounding.
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
            with timed_once(resolver):
                resolver.measured[key] = agreed(measure(resolver, *args, **kwargs), resolver.group)
        return resolver.measured[key]

    return remembered


@contextlib.contextmanager
def timed_once(resolver: ModuleResolver) -> Iterator[None]:
    """What is done in here is done once per model, and counted in `once`; one in another is not counted twice."""
    inside, began = resolver.measured.get("inside", False), time.perf_counter()
    resolver.measured["inside"] = True
    try:
        yield
    finally:
        resolver.measured["inside"] = inside
        if not inside:
            resolver.measured["once"] = once(resolver) + time.perf_counter() - began


def once(resolver: ModuleResolver) -> float:
    """Seconds that were spent so far on checking and timing this model, which is done once in a process."""
    return resolver.measured.get("once", 0.0)


def short_ids(resolver: ModuleResolver) -> tuple[int, ...]:
    """The token ids of the short prompt that everything is measured on."""
    ids = np.array(probe_tokens(resolver.structure.vocab_size))[0].tolist()
    return tuple(ids[: resolver.structure.max_length])


def rows_of(resolver: ModuleResolver, rows: int) -> Run:
    """The short prompt as a run of some equal rows: noise at no position makes rows, and changes none."""
    noise = np.zeros((rows, 0, resolver.structure.d_model)) if rows > 1 else None
    return Run(short_ids(resolver), noise)


def rounding(resolver: ModuleResolver) -> float:
    """How far logits may move, relative to the largest, when only the batch's shape changes."""
    least, most = (table.get(compute_dtype(resolver), table[mx.bfloat16]) for table in (ROUNDING, CAPS))
    return min(most, max(least, 10 * _moved_by_company(resolver)))


@per_model
def _moved_by_company(resolver: ModuleResolver) -> float:
    """How far the logits of a row move with two more rows beside it, relative to the largest."""
    (one, _), (three, _) = (capture(resolver, rows_of(resolver, rows), []) for rows in (1, 3))
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
    return capture(resolver, rows_of(resolver, 1), [resolver.site("embed")])[1]["embed"].dtype


@per_model
def token_bytes(resolver: ModuleResolver) -> tuple[float, float, float, float]:
    """Bytes at a short plain pass's peak, at least and per token: up to the final norm, and of norm and head."""
    few, more = _peaks(resolver, 2), _peaks(resolver, 10)
    length = len(short_ids(resolver)) * (1 + attends_itself(resolver))
    found = []
    for a, b, tokens in zip(few, more, (length, 1) if len(few) > 1 else (length,), strict=True):
        slope = max(b - a, 0) / (8 * tokens)
        found += [max(a - 2 * tokens * slope, 0.0), slope]
    body, per_token, head, per_read = *found, *(0.0, 0.0)[: 4 - len(found)]
    return body, per_token, head, per_read


def _peaks(resolver: ModuleResolver, rows: int) -> list[int]:
    """The peak bytes of a plain pass up to the final norm, where there is one, and after it."""
    tokens, marks = mx.array([short_ids(resolver) * (1 + attends_itself(resolver))] * rows), []
    hooks = Hooks(resolver)
    with measured_peak() as peak:

        def mark() -> None:
            marks.append(peak())
            mx.reset_peak_memory()

        in_two(hooks, tokens, mark)
    return marks


def in_two(hooks: Hooks, tokens: mx.array, mark: Callable[[], None]) -> mx.array:
    """The last logits of a pass; `mark` is called at the final norm, where there is one, and at the end."""

    def reached(x: mx.array) -> mx.array:
        mx.eval(x)
        mark()
        return x

    if hooks.resolver.structure.norm is not None:
        hooks.add(norm_input(hooks.resolver), reached)
        slice_to_last(hooks)
    with hooks.hooked(), attending(attend if tokens.shape[1] >= LONG else None):
        logits = forward(hooks.resolver.net, tokens)[..., -1, :]
        mx.eval(logits)
    mark()
    return logits


def in_parts(length: int) -> bool:
    """Whether attention over so many tokens is computed part by part (see `attention_parts`)."""
    return length >= LONG and on_processor()


def seen(resolver: ModuleResolver, start: int, length: int) -> float:
    """How many keys the queries of positions from `start` on are multiplied with, on average."""
    if attends_itself(resolver) or not in_parts(length):
        return length
    own = length - start
    return start + (own + min(own, max(1, IN_CACHE // length))) / 2


def scores_bytes(resolver: ModuleResolver) -> float:
    """Bytes that attention takes for each pair of query and key, per head, where all scores are there at once."""
    if attends_itself(resolver) or any(more_than_masks(resolver)):
        return SCORES * 4
    return MARGIN * max(_measured_scores(resolver), compute_dtype(resolver).size)


def attends_itself(resolver: ModuleResolver) -> bool:
    """Whether a mixer makes no call of mlx's attention; a recurrent one holds more for a token of a longer prompt."""
    return not all(layer.attention or not layer.mixers for layer in resolver.structure.layers)


@per_model
def more_than_masks(resolver: ModuleResolver) -> tuple[bool, bool]:
    """Whether some attention call has a mask for each row or head, so that it is not made in parts; and sinks."""
    found = [False, False]

    def call(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
        mask = options.get("mask")
        found[0] |= isinstance(mask, mx.array) and mask.size != q.shape[2] * k.shape[2]
        found[1] |= options.get("sinks") is not None
        return plain_attention(q, k, v, **options)

    with Hooks(resolver).hooked(), attending(call):
        forward(resolver.net, mx.array([short_ids(resolver)]))
    return found[0], found[1]


@per_model
def _measured_scores(resolver: ModuleResolver) -> float:
    x = mx.zeros((1, 1, 128, 32), compute_dtype(resolver))
    mx.eval(x)
    with measured_peak() as peak:
        mx.eval(plain_attention(x, x, x, scale=1.0, mask="causal"))
        return peak() / 128**2


def site_bytes(resolver: ModuleResolver, site: Site, positions: int, length: int) -> int:
    """Bytes of one row of a site's array at so many positions of a prompt of `length` tokens."""
    heads, per_token, size = _sizes(resolver, site)
    return positions * (heads * length * size if site.side == "pattern" else per_token)


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
    resolver: ModuleResolver,
    rows: int,
    ran: int,
    length: int,
    sites: Iterable[Site] = (),
    read: int = 1,
    merged: bool = False,
) -> int:
    """Estimated peak of a pass of so many rows: `ran` tokens each that see `length`, edited or read at `sites`.

    read: the positions whose logits are wanted; 0 for none. merged: what is not run is attended to once for all rows.
    """
    s, size, sites = resolver.structure, compute_dtype(resolver).size, list(sites)
    least, per_token, head_least, per_read = token_bytes(resolver)
    inside = {site.side for site in sites} - {"input", "output"}
    if inside or attends_itself(resolver) or not in_parts(length) or more_than_masks(resolver)[0]:
        scores = scores_bytes(resolver) * (resolver.n_heads(0) or 1) * ran * (ran if merged else length)
    else:  # queries and outputs in float32, and keys and values where they are not
        scores = 4 * s.d_model * (4 * ran + (size < 4) * 2 * (ran if merged else length))
        least += SCORES * 4 * IN_CACHE
    if merged and not in_parts(length):
        least += SCORES * 4 * min(IN_MEMORY, rows * (resolver.n_heads(0) or 1) * ran * (length - ran))
    keys = 0 if merged else 4 * (length - ran) * s.d_model * size
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
        return PATTERNS * 4 * _sizes(resolver, site)[0] * ran * length
    return (6 if site.bases else 3) * site_bytes(resolver, site, ran, length)


def cache_bytes(resolver: ModuleResolver, length: int) -> int:
    """Keys and values of one row of `length` tokens in all layers."""
    return length * _cached_token(resolver)


@per_model
def _cached_token(resolver: ModuleResolver) -> int:
    caches = make_prompt_cache(resolver.net)
    forward(resolver.net, mx.array([short_ids(resolver)]), caches)
    return sum(x.nbytes // x.shape[2] for cache in caches for x in (cache.keys, cache.values))
