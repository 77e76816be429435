"""The router of a mixture of experts: the one module whose output is a logit per expert, found by changing it.

    g = router(x)                         # [B, T, experts]: what is looked for
    chosen = argpartition(-g, k)[:k];     y = sum of softmax(g)[chosen] * experts[chosen](x)

A linear map with an output for each expert is the router when raising one of its outputs chooses that expert. Many
architectures compute the logits inside a module that gives the choice away only: they have none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .recording import Call, same, without_caches
from .taps import arrays_of, first_array, fresh, tapping
from .wiring import number, rounding


class Router(NamedTuple):
    """The path of a layer's router, or None and why there is none; in_rows: its output is `[B * T, experts]`."""

    path: str | None
    why: str = ""
    in_rows: bool = False


def find_router(
    calls: list[Call], inside: list[Call], mixers: list[Call], tokens: mx.array, paths: dict[str, nn.Module]
) -> Router:
    """The router among the calls made inside a layer."""
    beside = [c for c in inside if not any(m.index <= c.index < m.end for m in mixers)]
    experts = {c.index: n for c in beside if (n := _experts(paths[c.path]))}
    if not experts:
        return Router(None, "this layer has no mixture of experts")
    able = [c for c in beside if _is_logits(c, min(experts.values()), tokens)]
    try:
        able = [c for c in able if _is_linear(c)]
        exact = [c for c in able if c.array().shape[-1] in experts.values()]
        able = exact or able  # more logits than experts, where some stand for doing nothing (longcat_flash)
        outermost = [c for c in able if not any(_wraps(other, c) for other in able)]
        found = [c for c in outermost if _chooses(calls, c, experts, paths)]
    except Exception as error:  # a module that is run by itself may fail in any way
        return Router(None, f"its mixture of experts does not run by itself: {type(error).__name__}: {error}")
    if len({c.path for c in found}) > 1:
        return Router(None, f"several modules give experts their logits: {', '.join(c.path for c in found)}")
    if not found:
        return Router(
            None,
            "the logits of its gate are computed inside a module that gives out the choice of experts only",
        )
    return Router(found[0].path, in_rows=found[0].array().ndim == 2)


def _experts(module: nn.Module) -> int:
    """How many experts a module holds, as one stack of matrices or as a list of modules; 0 for none."""
    for value in dict(module).values():
        if isinstance(value, mx.array) and value.ndim == 3:
            return value.shape[0]
        if isinstance(value, list) and len(value) > 1 and all(isinstance(m, nn.Module) for m in value):
            return len(value)
    return 0


def _is_logits(call: Call, fewest: int, tokens: mx.array) -> bool:
    """Whether a call's output has as many numbers per token or more, from one array of the same tokens."""
    x, given = call.output, call.inputs()
    if not isinstance(x, mx.array) or not mx.issubdtype(x.dtype, mx.floating) or len(given) != 1:
        return False
    counts = x.shape[:-1] in (tokens.shape, (tokens.size,))
    return counts and x.shape[-1] >= fewest and given[0].shape[:-1] == x.shape[:-1]


def _is_linear(call: Call) -> bool:
    """Whether the output is a linear map of the input, and no probability."""
    args, kwargs = without_caches(call)

    def out(factor: float) -> mx.array:
        scaled = [factor * a if isinstance(a, mx.array) else a for a in args]
        named = {k: factor * a if isinstance(a, mx.array) else a for k, a in kwargs.items()}
        return call.forward(*scaled, **named).astype(mx.float32)

    none, one, two = out(0.0), out(1.0), out(2.0)
    off, size = mx.abs(two - 2 * one + none).max(), mx.abs(one - none).max()
    return number(off) <= rounding(call.output.dtype) * number(size)


def _wraps(outer: Call, call: Call) -> bool:
    return outer.index < call.index < outer.end and same(outer.hidden(), call.hidden())


def _chooses(calls: list[Call], gate: Call, experts: dict[int, int], paths: dict[str, nn.Module]) -> bool:
    """Whether experts are chosen more often when their columns of the gate's output are raised than when lowered.

    Where no choice is to be seen, because all are chosen or other terms decide, whether the gate matters at all.
    """
    first, whole = min(experts), gate
    while whole.parent is not None and not whole.index <= first < whole.end:
        whole = calls[whole.parent]
    stacks = [paths[path] for path in dict.fromkeys(calls[i].path for i in experts)]
    gate_module, size = paths[gate.path], gate.array().shape[-1]

    def run(change: Callable[[mx.array], mx.array]) -> tuple[mx.array | None, list[mx.array]]:
        """The output with the gate's changed, and every array of integers that experts are given."""
        chosen: list[mx.array] = []

        def changed(forward: Any, args: tuple, kwargs: dict) -> mx.array:
            return change(forward(*args, **kwargs))

        def noted(forward: Any, args: tuple, kwargs: dict) -> Any:
            chosen.extend(fresh(x) for _, x in arrays_of(args, kwargs) if mx.issubdtype(x.dtype, mx.integer))
            return forward(*args, **kwargs)

        args, kwargs = without_caches(whole)
        with tapping([(gate_module, changed), *((stack, noted) for stack in stacks)]):
            return first_array(whole.forward(*args, **kwargs)), chosen

    def times(column: int, by: float) -> int:
        """How often the expert is chosen when its column is raised."""

        def raised(x: mx.array) -> mx.array:
            return x + (by * mx.abs(x).max() * (mx.arange(size) == column)).astype(x.dtype)

        return sum(int(np.array(x == column).sum()) for x in run(raised)[1])

    count = min(experts.values())
    columns = sorted({0, count // 3, 2 * count // 3, count - 1})
    gains = [times(column, 8.0) - times(column, -8.0) for column in columns]
    if min(gains) < 0 or size not in experts.values():
        return min(gains) >= 0 and 4 * sum(gains) >= len(gains) * gate.array().size / size
    return sum(gains) > 0 or not same(run(mx.negative)[0], run(mx.array)[0])
