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
from .finite import real


class Hand:
    """Whether the activation that a body holds can still change the pass."""

    __slots__ = ("done", "name", "now", "open", "touched")

    def __init__(self, name: str, open: bool = True, done: bool = False, now: str = ""):
        self.name = name
        self.open = open  # the pass waits at this site
        self.done = done  # the pass is over, or never saw it: the array is the user's own
        self.touched = False
        self.now = now  # where the pass is, when it went on


class Activation(mx.array):
    """An activation `[B, T, ...]`: everything an `mx.array` is, with `save`, `copy` and checked edits.

    What arithmetic and indexing give are plain arrays: only edits of this very object reach the pass.
    """

    hand = Hand("the array", open=False, done=True)

    @classmethod
    def of(cls, x: mx.array, hand: Hand) -> Activation:
        """A handle of its own on the values of `x`."""
        made = cls(x)
        made.hand = hand
        return made

    def save(self) -> Activation:
        """Keep the array after the block: returns the array itself, not a snapshot.

        Edits made in place later, while the pass still waits at this site, show in it: what was saved is
        what goes on. `x.copy()` before an edit keeps the values from before.
        """
        return self

    def copy(self) -> Activation:
        """A handle of its own on the same values, free to edit without any effect on the pass."""
        return Activation.of(self, Hand(self.hand.name, open=False, done=True))

    __copy__ = copy

    def __deepcopy__(self, memo: dict) -> Activation:
        return self.copy()

    @property
    def at(self) -> _At:
        """`x.at[index].set(v)`, `.add(v)` and so on: a changed copy."""
        return _At(self)

    def __getitem__(self, index: Any) -> mx.array:
        check_index(index, self.shape, self.hand.name)
        return super().__getitem__(_plain(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        self.editable()
        check_index(index, self.shape, self.hand.name, edit=True)
        real(value, self.hand.name)
        try:
            super().__setitem__(
                _plain(index), mx.array(value) if isinstance(value, (np.ndarray, np.generic)) else value
            )
        except (ValueError, TypeError, IndexError) as error:
            got = tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
            raise EditError(
                f"cannot put {got} into {self.hand.name}{tuple(self.shape)} at that index: {error}"
            ) from error

    def editable(self) -> None:
        """Note an edit; OrderError when it comes too late to take effect."""
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
        self.editable()
        real(other, self.hand.name)
        if isinstance(other, (mx.array, np.ndarray)):
            other = self._operand(mx.array(other))
        try:
            result = plain(self, other)
        except (TypeError, ValueError) as error:
            raise EditError(
                f"cannot combine {self.hand.name} with {type(other).__name__} in place: {error}"
            ) from error
        if result is NotImplemented:
            raise EditError(f"cannot combine {self.hand.name} with {type(other).__name__} in place")
        return result

    return edit


def _operand(self: Activation, other: mx.array) -> mx.array:
    """What an in-place operator may be given: it must neither widen the activation nor change its dtype."""
    try:
        fits = np.broadcast_shapes(tuple(other.shape), tuple(self.shape)) == tuple(self.shape)
    except ValueError:
        fits = False
    if not fits:
        raise EditError(f"{self.hand.name} has shape {tuple(self.shape)}, not {tuple(other.shape)}")
    if mx.issubdtype(self.dtype, mx.floating) and mx.issubdtype(other.dtype, mx.floating):
        return other.astype(self.dtype)
    if other.dtype == mx.complex64:
        raise EditError(f"{self.hand.name} holds {self.dtype}, not {other.dtype}")
    return other


Activation._operand = _operand
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    if hasattr(mx.array, f"__i{_name}__"):
        setattr(Activation, f"__i{_name}__", _in_place(f"__i{_name}__"))


class _At:
    """`x.at[index].set(v)`, `.add(v)` and so on: a changed copy."""

    def __init__(self, x: Activation, index: Any = None):
        self._x, self._index = x, index

    def __getitem__(self, index: Any) -> _At:
        check_index(index, self._x.shape, self._x.hand.name, edit=True)
        return _At(self._x, index)

    def set(self, value: Any) -> Activation:
        changed = self._x.copy()
        changed[self._index] = value
        return changed

    def __getattr__(self, name: str) -> Any:
        return getattr(mx.array(self._x).at[self._index], name)


def _plain(index: Any) -> Any:
    """The index in the types that MLX takes."""
    if isinstance(index, tuple):
        return tuple(_plain(part) for part in index)
    if isinstance(index, np.generic):
        return index.item()
    if _is_mask(index) and index.ndim == 1:  # MLX takes no mask beside another index
        index = np.flatnonzero(np.array(index))
    return mx.array(index) if isinstance(index, (np.ndarray, range)) and len(index) else index


def _is_mask(part: Any) -> bool:
    return hasattr(part, "dtype") and part.dtype in (mx.bool_, np.bool_) and part.ndim > 0


def check_index(index: Any, shape: tuple[int, ...], name: str, edit: bool = False) -> None:
    """Raise PositionError when `index` lies outside `shape`.

    Integers must be inside always. A slice that is read is cut off at the end, as everywhere in Python; a slice
    that is edited must lie inside and select something, because an edit that quietly does less misleads.
    """
    parts = index if isinstance(index, tuple) else (index,)
    axes = sum(_axes_taken(p) for p in parts)
    if axes > len(shape):
        raise PositionError(f"{name} has {len(shape)} axes {tuple(shape)}; {axes} were indexed")
    axis = 0
    for part in parts:
        if part is Ellipsis:
            axis += len(shape) - axes
        elif isinstance(part, slice):
            if edit:
                _check_slice(part, shape, axis, name)
        elif _is_mask(part):
            _check_mask(part, shape, axis, name, edit)
        elif part is not None:
            _check_integers(part, shape, axis, name)
        axis += _axes_taken(part)


def _axes_taken(part: Any) -> int:
    if part is None or part is Ellipsis:
        return 0
    dtype = getattr(part, "dtype", None)
    return max(part.ndim, 1) if dtype is not None and dtype in (mx.bool_, np.bool_) else 1


def _check_slice(part: slice, shape: tuple[int, ...], axis: int, name: str) -> None:
    size = shape[axis]
    bounds = [b for b in (part.start, part.stop) if b is not None]
    if any(not -size <= b <= size for b in bounds):
        raise PositionError(f"slice {_text(part)} leaves axis {axis} of {name}{tuple(shape)}: 0 to {size}")
    if size and not range(*part.indices(size)):
        raise PositionError(f"slice {_text(part)} of axis {axis} of {name}{tuple(shape)} selects nothing")


def _check_mask(part: Any, shape: tuple[int, ...], axis: int, name: str, edit: bool) -> None:
    masked = tuple(shape[axis : axis + part.ndim])
    if tuple(part.shape) != masked:
        raise PositionError(
            f"a mask of shape {tuple(part.shape)} does not fit {masked} of {name}{tuple(shape)}"
        )
    try:
        nothing = not np.array(part).any()
    except ValueError:
        return  # a mask that is itself being differentiated has no values yet
    if edit and nothing:
        raise PositionError(f"the mask at axis {axis} of {name}{tuple(shape)} selects nothing")


def _text(part: slice) -> str:
    return ":".join("" if b is None else str(b) for b in (part.start, part.stop))


def _check_integers(part: Any, shape: tuple[int, ...], axis: int, name: str) -> None:
    if isinstance(part, (bool, str, float)):
        raise PositionError(f"{name} cannot be indexed by {part!r}")
    try:
        values = np.array(part)
    except ValueError:
        return  # an index that is itself being differentiated has no values yet
    if values.dtype == bool or not values.size:
        return
    if values.dtype.kind not in "iu":
        raise PositionError(f"{name} cannot be indexed by {values.dtype} values")
    size = shape[axis]
    bad = values[(values < -size) | (values >= size)] if values.dtype.kind == "i" else values[values >= size]
    if bad.size:
        raise PositionError(
            f"index {int(bad.reshape(-1)[0])} is outside axis {axis} of {name}{tuple(shape)}: 0 to {size - 1}"
        )
