"""The array that a trace hands out: an `mx.array` that can be saved, and edited while its site is open.

MLX arrays are mutable handles, so an edit in place (`x[:, 4] = v`, `x *= 2`) needs no machinery: when the pass
goes on, the tap returns the handle's value. What this class adds is loudness: an edit after the pass went by
raises, and so does an index past the end, which MLX itself lets through.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from .errors import EditError, OrderError, PositionError


class Hand:
    """Whether the activation that a body holds can still change the pass."""

    def __init__(self, name: str):
        self.name = name
        self.open = True  # the pass waits at this site
        self.done = False  # the pass is over: the array is the user's own
        self.touched = False
        self.now = ""  # where the pass is, when it went on


class Activation(mx.array):
    """An activation `[B, T, ...]`: everything an `mx.array` is, with `save`, `copy` and checked edits."""

    hand: Hand

    @classmethod
    def of(cls, x: mx.array, hand: Hand) -> Activation:
        made = cls(x)
        made.hand = hand
        return made

    def save(self) -> Activation:
        """Keep the array after the block; returns it. Edits made later in the same site show in it."""
        return self

    def copy(self) -> Activation:
        """A handle of its own on the same values, free to edit."""
        hand = Hand(self.hand.name)
        hand.done = True
        return Activation.of(self, hand)

    @property
    def at(self) -> _At:
        return _At(self)

    def __getitem__(self, index: Any) -> mx.array:
        check_index(index, self.shape, self.hand.name)
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._edit()
        check_index(index, self.shape, self.hand.name)
        try:
            super().__setitem__(index, value)
        except (ValueError, TypeError) as error:
            got = tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
            raise EditError(
                f"cannot put {got} into {self.hand.name}{tuple(self.shape)} at that index: {error}"
            ) from error

    def _edit(self) -> None:
        hand = self.hand
        if not hand.open and not hand.done:
            raise OrderError(
                f"{hand.name} has gone by: the pass is at {hand.now or 'a later site'}, so this edit could not "
                "take effect. Edit a site before asking for a later one, or edit a copy (`x.copy()`)"
            )
        hand.touched = True


def _in_place(name: str):
    plain = getattr(mx.array, name)

    def edit(self, other):
        self._edit()
        shape = getattr(other, "shape", ())
        if shape and np.broadcast_shapes(tuple(shape), tuple(self.shape)) != tuple(self.shape):
            raise EditError(f"{self.hand.name} has shape {tuple(self.shape)}, not {tuple(shape)}")
        return plain(self, other)

    return edit


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    if hasattr(mx.array, f"__i{_name}__"):
        setattr(Activation, f"__i{_name}__", _in_place(f"__i{_name}__"))


class _At:
    """`x.at[index].set(v)`, `.add(v)` and so on: a changed copy."""

    def __init__(self, x: Activation, index: Any = None):
        self._x, self._index = x, index

    def __getitem__(self, index: Any) -> _At:
        check_index(index, self._x.shape, self._x.hand.name)
        return _At(self._x, index)

    def set(self, value: Any) -> Activation:
        changed = self._x.copy()
        changed[self._index] = value
        return changed

    def __getattr__(self, name: str) -> Any:
        return getattr(mx.array(self._x).at[self._index], name)


def check_index(index: Any, shape: tuple[int, ...], name: str) -> None:
    """Raise PositionError when an integer or an array of integers in `index` lies outside `shape`."""
    parts = index if isinstance(index, tuple) else (index,)
    axes = sum(1 for p in parts if p is not None and p is not Ellipsis)
    if axes > len(shape):
        raise PositionError(f"{name} has {len(shape)} axes {tuple(shape)}; {axes} were indexed")
    axis = 0
    for part in parts:
        if part is None:
            continue
        if part is Ellipsis:
            axis = len(shape) - (axes - axis)
            continue
        if not isinstance(part, slice):
            _check_integers(part, shape, axis, name)
        axis += 1


def _check_integers(part: Any, shape: tuple[int, ...], axis: int, name: str) -> None:
    if isinstance(part, bool):
        raise PositionError(f"{name} cannot be indexed by {part}")
    values = np.array(part)
    if values.dtype == bool or not values.size:
        return
    size = shape[axis]
    bad = [int(v) for v in values.reshape(-1) if not -size <= v < size]
    if bad:
        raise PositionError(f"index {bad[0]} is outside axis {axis} of {name}{tuple(shape)}: 0 to {size - 1}")
