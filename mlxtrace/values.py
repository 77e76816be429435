"""What may be put into an activation: real, finite numbers, of a shape that fits; else an error that says why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import mlx.core as mx
import numpy as np

from .arguments import positions_in
from .errors import EditError, InputError

Value = mx.array | np.ndarray | float
Positions = int | slice | range | Sequence[int]
LARGEST = float(np.finfo(np.float32).max)


# ---- numbers


def finite_number(value: Any, what: str) -> float:
    """A number that float32 can hold; else InputError."""
    if hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number):
        raise InputError(f"{what} takes a finite number, not {value!r}.")
    if abs(number) > LARGEST:
        raise InputError(f"{what}: {value:g} is larger than any number in float32; give a smaller one.")
    return number


def real(value: object, name: str) -> None:
    """EditError for a value that no activation holds: booleans, complex numbers."""
    kind = str(getattr(value, "dtype", type(value).__name__)).rsplit(".", 1)[-1]
    if kind.startswith(("bool", "complex")):
        raise EditError(f"{name} holds real numbers, not {kind} values: {value!r}")


def as_array(value: Value, what: str) -> mx.array:
    """A number or an array, on a handle of its own; EditError when it is empty, not real, or holds NaN."""
    as_mlx: Any = getattr(value, "__mlx_array__", None)  # of a `Direction`, say
    value = value if as_mlx is None else as_mlx()
    fits = isinstance(value, mx.array | np.ndarray | Real | list | tuple) and not isinstance(value, bool)
    try:
        array = mx.array(value) if fits else None
    except (
        TypeError,
        ValueError,
        OverflowError,
        RuntimeError,
    ):  # the last: a type or number that MLX has not
        array = None
    if array is None or array.dtype in (mx.bool_, mx.complex64):
        kind = type(value).__name__ if array is None or isinstance(value, list | tuple) else array.dtype
        raise EditError(
            f"{what}: the value must be an array of real numbers or a number, not {kind} {value!r}."
        )
    if not array.size:
        raise EditError(f"{what}: the value is empty, {list(array.shape)}; give a number for each element.")
    if isinstance(value, Real):
        finite_number(value, f"{what}(value)")
    if mx.issubdtype(array.dtype, mx.floating) and _known(mx.isnan(array).any()):
        raise EditError(f"{what}: the value holds NaN; give finite numbers")
    return array


def _known(x: mx.array) -> Any:
    """The value of an array of one element; 0 inside `mx.grad`, where arrays have no values yet."""
    try:
        return x.item()
    except ValueError as error:
        if "transform" not in str(error):
            raise
        return 0


# ---- shapes


def index_of(x: mx.array, positions: Positions, name: str) -> mx.array:
    """Token positions of x `[B, T, ...]` as an array of integers."""
    if x.ndim < 2:
        raise EditError(
            f"{name}: positions count along axis 1, but the activation has shape {list(x.shape)}."
        )
    return mx.array(positions_in(positions, x.shape[1]))


def put_at(x: mx.array, index: mx.array, rows: mx.array) -> mx.array:
    """x with these rows at those positions; x itself stays as it is."""
    y = mx.array(x)  # a handle of its own: the assignment below must not reach the caller's
    y[:, index] = rows
    return y


def fits(value: mx.array, shape: Sequence[int]) -> bool:
    """Whether a value broadcasts to `shape` along the batch axis only (or is a vector or a number)."""
    missing = len(shape) - value.ndim
    if missing < 0:
        return False
    if value.ndim < 2:
        return value.ndim == 0 or value.shape[0] == shape[-1]
    batch_is_one = missing == 0 and value.shape[0] == 1
    start = 1 if batch_is_one else missing
    return missing <= 1 and tuple(value.shape[start - missing :]) == tuple(shape[start:])


def fitted(value: mx.array, shape: Sequence[int], x: mx.array, name: str) -> mx.array:
    """The value, in full shape and x's dtype, on a handle of its own."""
    if not fits(value, shape):
        batch, *rest = shape
        raise EditError(
            f"{name}: a value of shape {list(value.shape)} does not fit the activation of shape "
            f"{list(x.shape)}. Give shape {[batch, *rest]} or {rest}, a vector [{shape[-1]}], or a number."
        )
    return mx.array(mx.broadcast_to(value, shape).astype(x.dtype))


def rows_at(value: mx.array, index: mx.array, x: mx.array, name: str) -> mx.array:
    """What goes to the positions `index`: rows of a whole activation, or rows given one for each."""
    batch, _, *rest = x.shape
    if value.ndim >= 2 and fits(value, x.shape):
        return mx.take(fitted(value, x.shape, x, name), index, axis=1)
    rows = (batch, index.size, *rest)
    if not fits(value, rows):
        raise EditError(
            f"{name}: a value of shape {list(value.shape)} fits neither the activation of shape "
            f"{list(x.shape)} nor its {index.size} chosen positions, {list(rows)}. Give one of these shapes "
            f"(the batch axis may be left out), a vector [{x.shape[-1]}], or a number."
        )
    return fitted(value, rows, x, name)


# ---- what an edit has made of a site


def checked(value: Any, site_value: mx.array, name: str) -> mx.array:
    """A value that may stand in a site's place: same shape, cast to its dtype; EditError otherwise."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        value = mx.array(value)
    if not isinstance(value, mx.array):
        hint = "; return the array from the intervention" if value is None else ""
        if isinstance(value, (int, float)):
            hint = "; to fill the whole site write `site.output[...] = value`"
        raise EditError(
            f"{name} needs an mx.array {tuple(site_value.shape)}, not {type(value).__name__}{hint}"
        )
    if value.shape != site_value.shape:
        raise EditError(
            f"{name} has shape {tuple(site_value.shape)}, not {tuple(value.shape)}; "
            "to edit some positions write `site.output[:, position] = value`"
        )
    if value.dtype in (mx.bool_, mx.complex64):
        raise EditError(f"{name} holds {site_value.dtype}, not {value.dtype}")
    return mx.array(value).astype(site_value.dtype)


def unbroken(before: mx.array, after: mx.array, name: str) -> mx.array:
    """`after`, once it is known that an edit made nothing of `before` NaN or infinite; else EditError.

    No number that comes out of a pass with NaN in it means anything. What was not finite before may stay so (masks,
    an overflow of the model's own), and a logit may become -inf: that token is ruled out.
    """
    if not mx.issubdtype(after.dtype, mx.inexact) or before.shape != after.shape:
        return after
    wrong = mx.isfinite(before) & ~mx.isfinite(after)
    if name == "logits":
        wrong = wrong & ~mx.isneginf(after)
    if n := _known(wrong.sum()):
        raise EditError(
            f"the edit of {name} made {n} of its {after.size} numbers NaN or infinite ({after.dtype}), so whatever "
            "the pass gives would mean nothing: check the value, or scale by less"
        )
    return after
