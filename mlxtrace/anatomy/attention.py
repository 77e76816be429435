"""Inside attention: the one call that every mlx-lm attention makes, and the pattern that follows from it.

All of mlx-lm's attention modules end in `mx.fast.scaled_dot_product_attention`. `attending(hook)` intercepts
that call for as long as a block runs, in this context only, and sees queries, keys and values as the call does:
after RoPE, with the true mask, scale and sinks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import mlx.core as mx

from .block import Block, ContextBlock, OpenBlocks, leaving

INTERNALS = ("q", "k", "v", "pattern")
Fire = Callable[[str, mx.array], mx.array]

_open: OpenBlocks[Attending] = OpenBlocks("mlxtrace_attention")
plain_attention = mx.fast.scaled_dot_product_attention
# Of a sharded model (see `shards`): what of the attention call is a rank's own, and the plain call on wholes.
shared: ContextVar[Any] = ContextVar("mlxtrace_shared_attention", default=None)
plainly: ContextVar[Callable[..., mx.array]] = ContextVar("mlxtrace_plainly", default=plain_attention)


def _intercepted(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
    block = _open.here()
    if block is None or block.hook is None:
        return plain_attention(q, k, v, **options)
    share = shared.get()
    with attending(None):  # what the hook calls is not intercepted again
        if share is not None:
            return share.attend(block.hook, q, k, v, **options)
        return block.hook(q, k, v, **options)


class Attending(ContextBlock):
    """Routes attention calls through `hook(q, k, v, *, scale, mask, sinks, ...) -> output` in its block.

    hook: None for plain calls. within: a block that this one cannot outlive.
    """

    def __init__(self, hook: Callable[..., mx.array] | None, within: Block | None = None):
        super().__init__(within)
        self.hook = hook

    def __enter__(self) -> None:
        self.enter()
        if self.hook is not None:
            with _open.lock:
                tidy()
                _open.add(self)
                mx.fast.scaled_dot_product_attention = _intercepted
        _open.go_in(self)

    @leaving
    def __exit__(self, *error: object) -> None:
        self.abandon()

    def abandon(self) -> None:
        """Intercept no more for this block; may be repeated."""
        self.left = True
        _open.go_out(self)
        if self.hook is not None:
            tidy()


def tidy() -> None:
    """Intercept no more unless a running block wants it; may be repeated, at any time."""
    with _open.lock:
        mx.fast.scaled_dot_product_attention = _intercepted if _open.running() else plain_attention


def attending(hook: Callable[..., mx.array] | None, within: Block | None = None) -> Attending:
    """`with attending(hook):` routes attention calls through the hook."""
    return Attending(hook, within)


def hook_of(fire: Fire, wants: Callable[[str], bool]) -> Callable[..., mx.array]:
    """An attention hook that passes what it sees through `fire(name, array) -> array`.

    Queries, keys and values are shown as `[B, T, heads, width]` and patterns as `[B, heads, T, T]`, each under
    its name in INTERNALS if `wants(name)`. Where a pattern comes back changed, the output is the changed
    pattern times the values; everything else stays bit for bit as it was.
    """

    def hook(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
        q, k, v = (_fired(fire, wants, name, x) for name, x in zip("qkv", (q, k, v), strict=True))
        out = plainly.get()(q, k, v, **options)
        if not wants("pattern"):
            return out
        before = pattern(q, k, **options)
        after = fire("pattern", before)
        if after is before:
            return out
        changed = mx.any(after != before, axis=-1, keepdims=True)
        return mx.where(changed, weighted(after, v).astype(out.dtype), out)

    return hook


def _fired(fire: Fire, wants: Callable[[str], bool], name: str, x: mx.array) -> mx.array:
    if not wants(name):
        return x
    before = x.swapaxes(1, 2)
    after = fire(name, before)
    return x if after is before else after.swapaxes(1, 2)


def pattern(
    q: mx.array, k: mx.array, *, scale: float, mask: Any = None, sinks: mx.array | None = None, **_: Any
) -> mx.array:
    """Attention weights `[B, heads, Tq, Tk]`: softmax(scale q k' + mask), in q's dtype.

    Keys of grouped heads are shared; a row sums to 1, or to less where a sink takes the rest.
    """
    k = mx.repeat(k, q.shape[1] // k.shape[1], axis=1)
    scores = (q.astype(mx.float32) * scale) @ k.astype(mx.float32).swapaxes(-1, -2)
    scores = _masked(scores, mask)
    if sinks is None:
        return mx.softmax(scores, axis=-1, precise=True).astype(q.dtype)
    sink = mx.broadcast_to(sinks.astype(mx.float32).reshape(1, -1, 1, 1), (*scores.shape[:-1], 1))
    weights = mx.softmax(mx.concatenate([scores, sink], axis=-1), axis=-1, precise=True)
    return weights[..., :-1].astype(q.dtype)


def _masked(scores: mx.array, mask: Any) -> mx.array:
    if isinstance(mask, str):  # "causal": the last query sees the last key
        queries, keys = scores.shape[-2:]
        mask = mx.arange(keys)[None] <= mx.arange(queries)[:, None] + (keys - queries)
    if mask is None:
        return scores
    if mask.dtype == mx.bool_:
        return mx.where(mask, scores, -mx.inf)
    return scores + mask.astype(mx.float32)


def weighted(weights: mx.array, v: mx.array) -> mx.array:
    """Weights `[B, heads, Tq, Tk]` times values `[B, kv heads, Tk, width]`: the heads' outputs."""
    v = mx.repeat(v, weights.shape[1] // v.shape[1], axis=1)
    return weights.astype(mx.float32) @ v.astype(mx.float32)
