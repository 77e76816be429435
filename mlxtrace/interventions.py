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

from numbers import Real

import mlx.core as mx

from .arguments import as_integer
from .errors import InputError
from .intervention import Edit, Intervention, direction_site, only_at, starts_at
from .values import Positions, Value, as_array, finite_number, fitted, put_at, rows_at


def replace_with(value: Value) -> Intervention:
    """Put `value` in place of the whole activation.

    Args:
        value: a number, `[D]`, `[T, D]` or `[1 or B, T, D]` for x `[B, T, D]`.

    Returns:
        A function x -> value in x's shape and dtype.

    Raises:
        EditError: the value is not real, holds NaN, or does not fit x (this one when the pass is there).

    Example:
        >>> import mlx.core as mx
        >>> from mlxtrace import interventions as iv
        >>> iv.replace_with(mx.array([1.0, 2.0]))(mx.zeros((1, 2, 2))).tolist()
        [[[1.0, 2.0], [1.0, 2.0]]]
    """
    array, name = _value(value, "replace_with")
    return only_at(value, Intervention(name, lambda x: fitted(array, x.shape, x, name)))


def replace_at(value: Value, positions: Positions) -> Intervention:
    """Put `value` at some token positions and leave the others.

    Args:
        value: a whole activation `[.., T, D]`, whose rows at `positions` are taken (also when n == T); or
            `[.., n, D]`, one row for each of the n positions in the order given; or `[D]`, or a number.
        positions: an int, a list, a slice or a range; negative ones count from the end.

    Returns:
        A function x `[B, T, D]` -> x with the value at those positions.

    Raises:
        EditError: the shapes differ. PositionError: a position is outside the prompt. Both when the pass is there.

    Example:
        >>> import mlx.core as mx
        >>> from mlxtrace import interventions as iv
        >>> iv.replace_at(mx.array([1.0, 2.0]), -1)(mx.zeros((1, 2, 2))).tolist()
        [[[0.0, 0.0], [1.0, 2.0]]]
    """
    array, name = _value(value, "replace_at", positions)

    def edit(x: mx.array, index: mx.array) -> mx.array:
        return put_at(x, index, rows_at(array, index, x, name))

    return only_at(value, Intervention(name, edit, positions))


def zero_out() -> Intervention:
    """Set the whole activation to zero.

    Returns:
        A function x -> zeros of x's shape and dtype.

    Example:
        >>> import mlx.core as mx
        >>> from mlxtrace import interventions as iv
        >>> iv.zero_out()(mx.ones((1, 2, 2))).tolist()
        [[[0.0, 0.0], [0.0, 0.0]]]
    """
    return Intervention("zero_out()", mx.zeros_like)


def zero_at(positions: Positions) -> Intervention:
    """Set the activation to zero at some token positions.

    Args:
        positions: an int, a list, a slice or a range; negative ones count from the end.

    Returns:
        A function x `[B, T, ...]` -> x with zeros at those positions.

    Raises:
        PositionError: a position is outside the prompt (when the pass is there).

    Example:
        >>> import mlx.core as mx
        >>> from mlxtrace import interventions as iv
        >>> iv.zero_at(-1)(mx.ones((1, 2, 2))).tolist()
        [[[1.0, 1.0], [0.0, 0.0]]]
    """
    return Intervention(
        f"zero_at({positions})", lambda x, index: put_at(x, index, mx.array(0, x.dtype)), positions
    )


def add_vector(v: Value, positions: Positions | None = None) -> Intervention:
    """Add `v` everywhere, or at some token positions: x + v.

    Args:
        v: as the value of `replace_with`, or of `replace_at` when positions are given; usually a direction `[D]`, in
            units of the activation: an array, or what `model.direction` gives, which belongs to one site.
        positions: None for all; else an int, a list, a slice or a range; negative ones count from the end.

    Returns:
        A function x `[B, T, D]` -> x with `v` added.

    Raises:
        EditError: the shapes differ. PositionError: a position is outside the prompt. Both when the pass is there.

    Example:
        >>> import mlx.core as mx
        >>> from mlxtrace import interventions as iv
        >>> iv.add_vector(mx.array([1.0, 2.0]), positions=-1)(mx.zeros((1, 2, 2))).tolist()
        [[[0.0, 0.0], [1.0, 2.0]]]
    """
    array, name = _value(v, "add_vector", *([] if positions is None else [positions]))
    by_head = bool(direction_site(v)) and array.ndim == 2  # at every token of [B, T, heads, D]

    def added(x: mx.array) -> mx.array:
        return mx.broadcast_to(array, x.shape) if by_head and array.shape == x.shape[2:] else array

    def edit(x: mx.array, index: mx.array) -> mx.array:
        return put_at(x, index, x[:, index] + rows_at(added(x), index, x, name))

    if positions is None:
        return only_at(v, Intervention(name, lambda x: x + fitted(added(x), x.shape, x, name)))
    return only_at(v, Intervention(name, edit, positions))


def scale(k: float) -> Intervention:
    """Multiply the activation: k x.

    Args:
        k: a finite number.

    Returns:
        A function x -> k x in x's dtype.

    Raises:
        InputError: `k` is not a finite number.

    Example:
        >>> import mlx.core as mx
        >>> from mlxtrace import interventions as iv
        >>> iv.scale(0.5)(mx.ones((1, 1, 2))).tolist()
        [[[0.5, 0.5]]]
    """
    k = finite_number(k, "scale(k)")
    return Intervention(f"scale({k:g})", lambda x: (x * k).astype(x.dtype))


def clamp(lo: float | None, hi: float | None) -> Intervention:
    """Limit every element: min(max(x, lo), hi).

    Args:
        lo: the least value, in units of the activation; None for no limit.
        hi: the largest; None for no limit.

    Returns:
        A function x -> x within the limits.

    Raises:
        InputError: neither is given, `lo` is above `hi`, or one is not a finite number.

    Example:
        >>> import mlx.core as mx
        >>> from mlxtrace import interventions as iv
        >>> iv.clamp(-1, 1)(mx.array([[[-3.0, 0.5, 7.0]]])).tolist()
        [[[-1.0, 0.5, 1.0]]]
    """
    if lo is None and hi is None:
        raise InputError("clamp(None, None) limits nothing: give `lo`, `hi` or both.")
    lo = None if lo is None else finite_number(lo, "clamp(lo, hi)")
    hi = None if hi is None else finite_number(hi, "clamp(lo, hi)")
    if lo is not None and hi is not None and lo > hi:
        raise InputError(f"clamp(lo={lo:g}, hi={hi:g}): `lo` is above `hi`; swap them.")
    return Intervention(f"clamp({lo}, {hi})", lambda x: mx.clip(x, lo, hi).astype(x.dtype))


def noise(std: float, seed: int = 0) -> Intervention:
    """Add Gaussian noise: x + std n, with n drawn from N(0, 1).

    The draw depends on the seed and x's shape alone: every call adds the same noise, and MLX's global random
    state is left as it was. While text is generated, each new token has noise of its own, by the seed and its position.

    Args:
        std: the standard deviation, in units of the activation; 0 or more.
        seed: an integer from 0 to 2**64 - 1.

    Returns:
        A function x -> x with noise added, in x's dtype.

    Raises:
        InputError: `std` or `seed` is out of range.

    Example:
        >>> import mlx.core as mx
        >>> from mlxtrace import interventions as iv
        >>> x, blur = mx.zeros((1, 2, 4)), iv.noise(0.1, seed=3)
        >>> mx.array_equal(blur(x), blur(x)).item(), mx.array_equal(blur(x), x).item()
        (True, False)
    """
    std = finite_number(std, "noise(std)")
    if std < 0:
        raise InputError(f"noise(std={std:g}): a standard deviation is zero or more.")
    number = as_integer(seed)
    if number is None or not 0 <= number < 2**64:
        raise InputError(f"noise(seed={seed!r}): the seed is an integer from 0 to 2**64 - 1.")

    def edit(x: mx.array) -> mx.array:
        key, start = mx.random.key(number), starts_at()
        if start:  # a new token's draw in the prompt's stead would be one vector for all of them
            key = mx.random.split(key, start + 1)[start]
        draw = mx.random.normal(x.shape, key=key) * std
        return (x.astype(mx.float32) + draw).astype(x.dtype)

    return Intervention(f"noise({std:g}, seed={seed})", edit)


def compose(*functions: Edit) -> Intervention:
    """The functions one after the other, the first one first: x -> h(g(f(x))).

    Args:
        functions: interventions, or any functions array -> array; at least one.

    Returns:
        A function x -> what the last one returns.

    Raises:
        InputError: there is none, or one is not a function.

    Example:
        >>> import mlx.core as mx
        >>> from mlxtrace import interventions as iv
        >>> iv.compose(iv.scale(3), iv.add_vector(1.0))(mx.ones((1, 1, 2))).tolist()
        [[[4.0, 4.0]]]
    """
    if not functions:
        raise InputError("compose() needs at least one function array -> array.")
    for f in functions:
        refuse_uncalled(f)
        if not callable(f):
            raise InputError(f"compose() takes functions array -> array, not {type(f).__name__} {f!r}.")

    def edit(x: mx.array) -> mx.array:
        for f in functions:
            x = f(x)
        return x

    name = f"compose({', '.join(getattr(f, '__name__', repr(f)) for f in functions)})"
    return Intervention(name, edit, parts=functions)


def refuse_uncalled(fn: object) -> None:
    """InputError when `fn` makes an intervention and is none itself: `iv.zero_out` without its parentheses."""
    name = next((maker.__name__ for maker in MAKERS if fn is maker), None)
    if name is not None:
        raise InputError(
            f"iv.{name} makes an intervention when it is called: write iv.{name}(...), with parentheses."
        )


def _value(value: Value, what: str, *positions: Positions) -> tuple[mx.array, str]:
    """The value as an array of our own, and the name of the edit that it makes."""
    array = as_array(value, what)
    shown = f"{value:g}" if isinstance(value, Real) else str(list(array.shape))
    return array, f"{what}({', '.join([shown, *map(str, positions)])})"


MAKERS = replace_with, replace_at, zero_out, zero_at, add_vector, scale, clamp, noise, compose, Intervention
