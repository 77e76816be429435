"""Attention over long prompts: to keys that all rows share once for all of them, and in parts that stay in caches.

`attend` takes the place of the attention call (see `attention.attending`) and gives its numbers, to rounding:

- Keys and values that are the same for all rows (see `Joined`) are not looked at row by row: the tokens of all rows
  attend to them together, as the queries of one row; each row attends to its own; and the two softmaxes are made one
  by what they were divided by, of which `lse` is the log:

      out = own + (shared - own) * sigmoid(lse_shared - lse_own)

- On a processor, where MLX computes all scores of queries and keys at once, most of them masked, and takes the
  exponential of each in turn, NumPy does it block by block, and leaves out what is masked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from ..blas import numpy_in_one_thread
from .attention import INTERNALS as INTERNALS
from .attention import attending as attending
from .attention import hook_of as hook_of
from .attention import plain_attention

# Tokens of a prompt from which on this is faster than the plain call on a processor.
LONG = 64
# Scores that are computed at a time: on a processor such that they stay in its caches, elsewhere in memory.
IN_CACHE, IN_MEMORY = 1 << 17, 1 << 24
LEAST = float(np.finfo(np.float32).min)  # the score of what is masked: a query that sees nothing stays finite

Mask = mx.array | str | None


@dataclass(frozen=True)
class Queries:
    """Which tokens of a batch's rows `[rows x T]` attend, by the row of the shared keys that they see.

    by_shared: by that row, the places of its tokens. back: for every token of the batch, which of those that attend,
    in the order of `by_shared`, has its output.
    """

    by_shared: dict[int, np.ndarray]
    back: np.ndarray

    @classmethod
    def of(cls, attend: np.ndarray, shared: np.ndarray, first: np.ndarray) -> Queries:
        """Tokens where `attend [rows, T]` is true; the others have the output of the same token of another row.

        shared: by row, the row of the shared keys that it sees. first: by row, that other row.
        """
        at = np.flatnonzero(attend)
        of = shared[at // attend.shape[1]]
        by_shared = {int(row): at[of == row] for row in np.unique(of)}
        place = np.zeros(attend.size, dtype=int)
        place[np.concatenate(list(by_shared.values()))] = np.arange(len(at))
        place = place.reshape(attend.shape)
        return cls(by_shared, np.where(attend, place, place[first]).reshape(-1))


class Joined(mx.array):
    """Keys or values of all that each row sees, `[rows, heads, shared + own, width]`; computed only if looked at.

    Attributes:
        shared: those that rows share, `[shared rows, heads, shared, width]`. own: each row's.
        queries: the tokens that attend to them.
    """

    shared: mx.array
    own: mx.array
    queries: Queries

    @classmethod
    def of(cls, whole: mx.array, shared: mx.array, own: mx.array, queries: Queries) -> Joined:
        """The whole, and what it is made of."""
        made = cls(whole)
        made.shared, made.own, made.queries = shared, own, queries
        return made


def attend(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
    """What the attention call gives, `[rows, heads, T, width]`."""
    (rows, _, length, _), keys, mask = q.shape, k.shape[2], options.get("mask")
    if isinstance(mask, mx.array) and mask.shape[-2:] == (length, keys) and mask.size == length * keys:
        mask = mask.reshape(length, keys)
    elif isinstance(mask, mx.array) or options.keys() - {
        "scale",
        "mask",
        "sinks",
    }:  # rows differ in what they see
        return plain_attention(q, k, v, **options)
    sinks, scaled = options.get("sinks"), q.astype(mx.float32) * options["scale"]
    if isinstance(k, Joined) and isinstance(v, Joined) and len(k.queries.back) == rows * length:
        return _joined(scaled, k, v, mask, sinks).astype(q.dtype)
    if keys < LONG or not on_processor():
        return plain_attention(q, k, v, **options)
    return attention(scaled, k, v, mask, sinks)[0].astype(q.dtype)


def on_processor() -> bool:
    """Whether MLX computes on the CPU."""
    return mx.default_device() == mx.Device(mx.cpu)


def _joined(q: mx.array, k: Joined, v: Joined, mask: Mask, sinks: mx.array | None) -> mx.array:
    rows, heads, length, _ = q.shape
    shared = k.shared.shape[2]
    before, after = (mask[:, :shared], mask[:, shared:]) if isinstance(mask, mx.array) else (None, mask)
    own = attention(q, k.own, v.own, after, sinks)
    by_token = [x.swapaxes(1, 2).reshape(rows * length, heads, -1) for x in (q, *own)]
    found = []
    for row, at in k.queries.by_shared.items():
        part, own, own_lse = (mx.take(x, mx.array(at), axis=0).swapaxes(0, 1)[None] for x in by_token)
        seen = None if before is None else mx.take(before, mx.array(at % length), axis=0)
        out, lse = attention(part, k.shared[row : row + 1], v.shared[row : row + 1], seen)
        found.append((own + (out - own) * mx.sigmoid(lse - own_lse))[0].swapaxes(0, 1))
    out = mx.take(mx.concatenate(found), mx.array(k.queries.back), axis=0)
    return out.reshape(rows, length, heads, -1).swapaxes(1, 2)


# ---- softmaxes and what they were divided by


def attention(
    q: mx.array, k: mx.array, v: mx.array, mask: Mask = None, sinks: mx.array | None = None
) -> tuple[mx.array, mx.array]:
    """The output `[rows, heads, T, width]` of scaled float32 queries, and lse `[rows, heads, T, 1]`.

    mask: "causal" (the last query sees the last key), or `[T, keys]`: what is seen, or what is added to the scores.
    """
    k, v = k.astype(mx.float32), v.astype(mx.float32)
    if not on_processor():
        return _by_mlx(q, k, v, mask, sinks)
    arrays = [np.array(x, copy=False) for x in (q, k, v)]
    sink = None if sinks is None else np.array(sinks.astype(mx.float32)).reshape(k.shape[1], -1, 1, 1)
    seen: Any = mask
    if isinstance(mask, mx.array):
        seen = np.array(mask if mask.dtype == mx.bool_ else mask.astype(mx.float32))
    with numpy_in_one_thread():
        out, lse = _by_numpy(arrays[0], arrays[1], arrays[2], seen, sink)
    return mx.array(out), mx.array(lse)


def _by_mlx(
    q: mx.array, k: mx.array, v: mx.array, mask: Mask, sinks: mx.array | None
) -> tuple[mx.array, mx.array]:
    (rows, heads, length, width), (_, kv_heads, keys, _) = q.shape, k.shape
    if isinstance(mask, str):
        mask = mx.tri(length, keys, keys - length, dtype=mx.bool_)
    step, found = max(1, IN_MEMORY // (rows * heads * keys)), []
    for i in range(0, length, step):
        queries = q[:, :, i : i + step]
        scores = queries.reshape(rows, kv_heads, -1, width) @ k.swapaxes(-1, -2)
        scores = scores.reshape(rows, heads, -1, keys)
        if mask is not None:
            seen = mask[i : i + step]
            scores = (
                mx.where(seen, scores, LEAST) if seen.dtype == mx.bool_ else mx.maximum(scores + seen, LEAST)
            )
        if sinks is not None:
            sink = mx.broadcast_to(sinks.astype(mx.float32).reshape(-1, 1, 1), (*scores.shape[:-1], 1))
            scores = mx.concatenate([scores, sink], axis=-1)
        weights = mx.softmax(scores, axis=-1)
        lse = mx.max(scores, axis=-1, keepdims=True) - mx.log(mx.max(weights, axis=-1, keepdims=True))
        out = weights[..., :keys].reshape(rows, kv_heads, -1, keys) @ v
        found.append((out.reshape(rows, heads, -1, v.shape[-1]), lse))
    out, lse = (mx.concatenate(list(parts), axis=2) for parts in zip(*found, strict=True))
    return out, lse


def _by_numpy(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: Any, sinks: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    (rows, heads, length, _), (_, kv_heads, keys, _) = q.shape, k.shape
    group = heads // kv_heads
    q = q.reshape(rows, kv_heads, group, length, -1)
    k, v = k.swapaxes(-1, -2)[:, :, None], v[:, :, None]
    out = np.empty((*q.shape[:-1], v.shape[-1]), np.float32)
    lse = np.empty((*q.shape[:-1], 1), np.float32)
    step = max(1, IN_CACHE // keys)
    for i in range(0, length, step):
        j = min(i + step, length)
        seen, edge = _seen(mask, i, j, keys - length)
        for at in _matrices(rows, kv_heads, group, (j - i) * keys):
            of = (*at[:2], 0) if len(at) == 3 else at  # heads of a group share keys and values
            sink = None if sinks is None else sinks[at[1:]]
            part = q[at][..., i:j, :], k[of][..., seen], v[of][..., seen, :], edge, sink
            out[at][..., i:j, :], lse[at][..., i:j, :] = _block(*part)
    return out.reshape(rows, heads, length, -1), lse.reshape(rows, heads, length, 1)


def _matrices(rows: int, kv_heads: int, group: int, scores: int) -> Iterator[tuple]:
    """Which matrices of scores are computed at a time: those of some rows, or one head's."""
    if scores * kv_heads * group > IN_CACHE:
        return iter(np.ndindex(rows, kv_heads, group))
    step = IN_CACHE // (scores * kv_heads * group)
    return ((slice(i, i + step),) for i in range(0, rows, step))


def _seen(mask: Any, i: int, j: int, before: int) -> tuple[slice, np.ndarray | None]:
    """The keys that any query of i..j sees; and for the last of these, what is hidden (bool), or added to scores.

    before: how many keys the first query sees beside its own.
    """
    if mask is None:
        return slice(None), None
    if isinstance(mask, str):
        return slice(0, before + j), ~np.tri(j - i, dtype=bool)
    own = mask[i:j]
    if own.dtype != bool:
        return slice(None), own
    if not own.any(axis=1).all():
        return slice(None), ~own
    keys = np.flatnonzero(own.any(axis=0))
    seen = slice(int(keys[0]), int(keys[-1]) + 1)
    return seen, ~own[:, seen]


def _block(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, edge: np.ndarray | None, sink: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The softmax of some queries over some keys, and its lse. edge: as `_seen` has it."""
    scores = q @ k
    if edge is not None:
        last = scores[..., scores.shape[-1] - edge.shape[-1] :]
        if edge.dtype == bool:
            np.copyto(last, LEAST, where=edge)
        else:
            np.maximum(last + edge, LEAST, out=last)
    most = scores.max(axis=-1, keepdims=True)
    most = most if sink is None else np.maximum(most, sink)
    scores -= most
    np.exp(scores, out=scores)
    total = scores.sum(axis=-1, keepdims=True)
    total = total if sink is None else total + np.exp(sink - most)
    return scores @ v / total, most + np.log(total)
