"""Functions array -> array, for `trace(interventions={site: fn})`.

    replace_with, replace_at    put another activation there
    zero_out, zero_at           ablate
    add_vector, scale, clamp    steer
    noise                       blur, the same way on every call
    compose                     one after the other

    with model.trace(corrupted, interventions={"layers.8.mlp": iv.replace_at(clean_mlp, -1)}): ...

Each takes x [B, T, ...] (positions count along axis 1) and returns a new array of x's shape and dtype; x
itself and the values that were given are never changed. A value is a number, a vector [D], or an array of
x's own trailing shape, whose batch axis may be absent or 1. Nothing else is stretched to fit: an activation
of one token, put in place of nine, is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real

import mlx.core as mx

from .arguments import as_integer, positions_in
from .errors import EditError, InputError
from .values import Value, as_array, finite_number, fitted, rows_at

Positions = int | slice | range | Sequence[int]
Edit = Callable[[mx.array], mx.array]


class Intervention:
    """A named function array -> array; the name is what errors and plans print."""

    def __init__(self, name: str, fn: Edit):
        self.__name__ = name
        self._fn = fn

    def __call__(self, x: mx.array) -> mx.array:
        return self._fn(x)

    def __repr__(self) -> str:
        return self.__name__


def replace_with(value: Value) -> Intervention:
    """Put `value` in place of the whole activation.

    value: a number, [D], [T, D] or [1 or B, T, D] for x [B, T, D]. EditError when the shapes differ.
    """
    value, name = _value(value, "replace_with")
    return Intervention(name, lambda x: fitted(value, x.shape, x, name))


def replace_at(value: Value, positions: Positions) -> Intervention:
    """Put `value` at some token positions and leave the others.

    value: a whole activation [.., T, D], whose rows at `positions` are taken; or [.., n, D], one row for each
    of the n positions in the order given; or [D], or a number. When n == T it is read as a whole activation.
    positions: an int, a list, a slice or a range; negative ones count from the end. EditError when the shapes
    differ, PositionError when a position is outside the prompt.
    """
    value, name = _value(value, "replace_at", positions)

    def edit(x: mx.array) -> mx.array:
        index = _index(x, positions, name)
        return _put(x, index, rows_at(value, index, x, name))

    return Intervention(name, edit)


def zero_out() -> Intervention:
    """Set the whole activation to zero."""
    return Intervention("zero_out()", mx.zeros_like)


def zero_at(positions: Positions) -> Intervention:
    """Set the activation to zero at some token positions. PositionError when one is outside the prompt."""
    name = f"zero_at({positions})"
    return Intervention(name, lambda x: _put(x, _index(x, positions, name), mx.array(0, x.dtype)))


def add_vector(v: Value, positions: Positions | None = None) -> Intervention:
    """Add `v` everywhere, or at some token positions.

    v: as the value of `replace_with`, or of `replace_at` when positions are given; usually a direction [D].
    """
    v, name = _value(v, "add_vector", *([] if positions is None else [positions]))

    def edit(x: mx.array) -> mx.array:
        if positions is None:
            return x + fitted(v, x.shape, x, name)
        index = _index(x, positions, name)
        return _put(x, index, x[:, index] + rows_at(v, index, x, name))

    return Intervention(name, edit)


def scale(k: float) -> Intervention:
    """Multiply by the finite number `k`."""
    k = finite_number(k, "scale(k)")
    return Intervention(f"scale({k:g})", lambda x: (x * k).astype(x.dtype))


def clamp(lo: float | None, hi: float | None) -> Intervention:
    """Limit every element to [lo, hi]; None leaves that side open."""
    if lo is None and hi is None:
        raise InputError("clamp(None, None) limits nothing: give `lo`, `hi` or both.")
    lo = None if lo is None else finite_number(lo, "clamp(lo, hi)")
    hi = None if hi is None else finite_number(hi, "clamp(lo, hi)")
    if lo is not None and hi is not None and lo > hi:
        raise InputError(f"clamp(lo={lo:g}, hi={hi:g}): `lo` is above `hi`; swap them.")
    return Intervention(f"clamp({lo}, {hi})", lambda x: mx.clip(x, lo, hi).astype(x.dtype))


def noise(std: float, seed: int = 0) -> Intervention:
    """Add Gaussian noise of standard deviation `std` (in units of the activation).

    The draw depends on the seed and x's shape alone: every call adds the same noise, and MLX's global random
    state is left as it was.
    """
    std = finite_number(std, "noise(std)")
    if std < 0:
        raise InputError(f"noise(std={std:g}): a standard deviation is zero or more.")
    number = as_integer(seed)
    if number is None or not 0 <= number < 2**64:
        raise InputError(f"noise(seed={seed!r}): the seed is an integer from 0 to 2**64 - 1.")

    def edit(x: mx.array) -> mx.array:
        draw = mx.random.normal(x.shape, key=mx.random.key(number)) * std
        return (x.astype(mx.float32) + draw).astype(x.dtype)

    return Intervention(f"noise({std:g}, seed={seed})", edit)


def compose(*functions: Edit) -> Intervention:
    """The functions one after the other, the first one first."""
    if not functions:
        raise InputError("compose() needs at least one function array -> array.")
    for f in functions:
        called(f)
        if not callable(f):
            raise InputError(f"compose() takes functions array -> array, not {type(f).__name__} {f!r}.")

    def edit(x: mx.array) -> mx.array:
        for f in functions:
            x = f(x)
        return x

    return Intervention(f"compose({', '.join(getattr(f, '__name__', repr(f)) for f in functions)})", edit)


def called(fn: object) -> None:
    """InputError when `fn` makes an intervention and is none itself: `iv.zero_out` without its parentheses."""
    for factory in FACTORIES:
        if fn is factory:
            name = factory.__name__
            raise InputError(
                f"iv.{name} makes an intervention when it is called: write iv.{name}(...), with parentheses."
            )


def _value(value: Value, what: str, *positions: Positions) -> tuple[mx.array, str]:
    """The value as an array of our own, and the name of the edit that it makes."""
    array = as_array(value, what)
    shown = f"{value:g}" if isinstance(value, Real) else str(list(array.shape))
    return array, f"{what}({', '.join([shown, *map(str, positions)])})"


def _index(x: mx.array, positions: Positions, name: str) -> mx.array:
    if x.ndim < 2:
        raise EditError(
            f"{name}: positions count along axis 1, but the activation has shape {list(x.shape)}."
        )
    return mx.array(positions_in(positions, x.shape[1]))


def _put(x: mx.array, index: mx.array, rows: mx.array) -> mx.array:
    y = mx.array(x)  # a handle of its own: the assignment below must not reach the caller's
    y[:, index] = rows
    return y


FACTORIES = (
    replace_with,
    replace_at,
    zero_out,
    zero_at,
    add_vector,
    scale,
    clamp,
    noise,
    compose,
    Intervention,
)
