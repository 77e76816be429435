"""Watching a model's modules and its attention call, without anything of this package but what of a sharded model's
arrays is a process's own part (`anatomy.shards`): calls are shown whole.

    with watched(net, {"layers.3.mlp"}, call):                # call(path, forward, args, kwargs) -> output
        run(net, tokens)

Modules are watched by a subclass of their own class, attention by standing in for mlx's call.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.cache import make_prompt_cache

from ..anatomy.shards import attention, share_of

Handler = Callable[[str, Callable, tuple, dict], Any]


def run(net: nn.Module, tokens: mx.array, with_cache: bool = False) -> mx.array:
    """Logits of a plain call of the model; with_cache: of one that is right with a cache only."""
    out = net(tokens, cache=make_prompt_cache(net)) if with_cache else net(tokens)
    out = getattr(out, "logits", out)
    return out[0] if isinstance(out, (tuple, list)) else out


def whole_call(module: nn.Module) -> Callable[..., mx.array]:
    """A module's call, on what is whole where a process has a part of it."""
    share = share_of(module)
    return module if share is None else functools.partial(share.call, module)


@contextlib.contextmanager
def watched(
    modules: dict[str, nn.Module], call: Handler, attend: Callable[..., mx.array] | None = None
) -> Iterator[None]:
    """Route calls of the modules, named by path, through `call(path, forward, args, kwargs)`, and attention through
    `attend(plain, q, k, v, ...)`.
    """
    paths = {id(module): path for path, module in modules.items()}
    found = list({id(module): module for module in modules.values()}.values())
    classes, plain = [type(m) for m in found], mx.fast.scaled_dot_product_attention

    def subclass(cls: type) -> type:
        def __call__(self, *args, **kwargs):
            handler = functools.partial(call, paths[id(self)])
            forward, share = functools.partial(cls.__call__, self), share_of(self)
            return (
                handler(forward, args, kwargs)
                if share is None
                else share.whole(handler, forward, args, kwargs)
            )

        return type(cls.__name__, (cls,), {"__call__": __call__, "__module__": cls.__module__})

    def attended(*given: mx.array, **options: Any) -> mx.array:
        hook, share = attend or (lambda forward, *x, **how: forward(*x, **how)), attention.shared.get()
        if share is None:
            return hook(plain, *given, **options)
        return share.attend(lambda *x, **how: hook(attention.plainly.get(), *x, **how), *given, **options)

    try:
        for module, cls in zip(found, classes, strict=True):
            module.__class__ = subclass(cls)
        if attend is not None:
            mx.fast.scaled_dot_product_attention = attended
        yield
    finally:
        mx.fast.scaled_dot_product_attention = plain
        for module, cls in zip(found, classes, strict=True):
            module.__class__ = cls


# ---- what modules are given and return


def first_argument(args: tuple, kwargs: dict) -> int | str:
    """The position or the name of the first argument that is an array."""
    return next(k for k, x in [*enumerate(args), *kwargs.items()] if isinstance(x, mx.array))


def argument(args: tuple, kwargs: dict, key: int | str) -> Any:
    """An argument by its position or its name."""
    return args[key] if isinstance(key, int) else kwargs[key]


def with_argument(args: tuple, kwargs: dict, key: int | str, x: mx.array) -> tuple[tuple, dict]:
    """The arguments with one of them replaced."""
    if isinstance(key, int):
        return tuple(x if i == key else a for i, a in enumerate(args)), kwargs
    return args, {**kwargs, key: x}


def first_array(out: Any) -> mx.array:
    """The first array of what a module is given or returns."""
    return out if isinstance(out, mx.array) else next(x for x in out if isinstance(x, mx.array))


def with_first_array(out: Any, x: mx.array) -> Any:
    """What a module returned, with its first array replaced."""
    if isinstance(out, mx.array):
        return x
    first = next(i for i, y in enumerate(out) if isinstance(y, mx.array))
    parts = [x if i == first else y for i, y in enumerate(out)]
    return type(out)(*parts) if hasattr(out, "_fields") else type(out)(parts)


# ---- attention


def attention_weights(
    q: mx.array, k: mx.array, scale: float, mask: Any = None, sinks: Any = None, **_: Any
) -> np.ndarray:
    """softmax(scale q k' + mask) in float64, `[1, heads, Tq, Tk]`; a sink takes its share of each row."""
    queries, keys = (np.array(x.astype(mx.float32), dtype=np.float64) for x in (q, k))
    heads = queries.shape[1]
    group = heads // keys.shape[1]
    scores = np.stack(
        [scale * queries[:, h] @ keys[:, h // group].swapaxes(1, 2) for h in range(heads)], axis=1
    )
    n, m = scores.shape[2:]
    if isinstance(mask, str):
        scores[..., np.triu(np.ones((n, m), dtype=bool), 1 + m - n)] = -np.inf
    elif mask is not None:
        given = np.array(mask if mask.dtype == mx.bool_ else mask.astype(mx.float32))
        scores = np.where(given, scores, -np.inf) if given.dtype == bool else scores + given
    top = scores.max(-1, keepdims=True)
    rest: Any = 0.0
    if sinks is not None:
        sink = np.array(sinks.astype(mx.float32), dtype=np.float64).reshape(1, -1, 1, 1)
        top = np.maximum(top, sink)
        rest = np.exp(sink - top)
    weights = np.exp(scores - top)
    return weights / (weights.sum(-1, keepdims=True) + rest)
