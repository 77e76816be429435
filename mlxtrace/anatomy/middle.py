"""The middle of a layer: which module's output, added to the layer's input, gives the stream between mixer and MLP."""

from __future__ import annotations

import functools
import operator

import mlx.core as mx

from .contributions import Written
from .recording import Call, same


def middle(
    calls: list[Call], layer: Call, before: mx.array, parts: Written
) -> tuple[str, str] | tuple[None, str]:
    """The path of what is added to `before`, the layer's input, to give `resid_mid`; or None and the reason."""
    mixers, mlps = parts.mixers, parts.mlps
    if len(mixers) != 1 or not parts.summed:
        return None, f"the layer has {len(mixers)} mixers and {len(mlps)} MLPs, not one of each"
    if mixers[0].index > mlps[0].index:
        return None, "the MLP runs before the mixer"
    inside = calls[layer.index + 1 : layer.end]
    for added in _with_norms(mixers[0], inside):
        if added.array().shape != before.shape:
            continue
        mid = before + added.array()
        if any(_is_sum(layer.array(), mid, x) for x in _contributions(parts.summed, inside)):
            if any(_follows(mid, x) for c in inside if c.index >= added.end for x in c.inputs()):
                return added.path, ""
            return None, "attention and MLP read the same input in parallel, so no middle exists"
    return None, "the layer's output is not the plain sum of its input, mixer and MLP"


def _with_norms(part: Call, inside: list[Call]) -> list[Call]:
    """A part, and the later calls that are given its output: norms and gains."""
    return [part, *(c for c in inside if c.index >= part.end and same(_first(c), part.hidden()))]


def _first(call: Call) -> mx.array | None:
    return next(iter(call.inputs()), None)


def _contributions(summed: list[Call], inside: list[Call]) -> list[mx.array]:
    """What the MLP may add to the stream: its output, as it is or after a norm."""
    if len(summed) == 1:
        return [c.array() for c in _with_norms(summed[0], inside)]
    return [functools.reduce(operator.add, [c.array() for c in summed])]


def _is_sum(after: mx.array, mid: mx.array, added: mx.array) -> bool:
    return added.shape == mid.shape and _close(after, mid + added)


def _follows(mid: mx.array, x: mx.array) -> bool:
    """Whether a later call is given the middle, as it is or after a norm without weights."""
    return _close(mid, x) or _close(_unit(mid), _unit(x))


def _close(a: mx.array, b: mx.array) -> bool:
    if a.shape != b.shape:
        return False
    tolerance = {mx.float32: 1e-4, mx.float16: 5e-3}.get(a.dtype, 4e-2)
    a, b = a.astype(mx.float32), b.astype(mx.float32)
    return bool((mx.abs(a - b).max() <= tolerance * mx.abs(a).max()).item())


def _unit(x: mx.array) -> mx.array:
    """Each token's vector at length 1, so that what went through a norm without weights can be recognised."""
    x = x.astype(mx.float32)
    return x / mx.maximum(mx.linalg.norm(x, axis=-1, keepdims=True), 1e-20)
