"""The array that a trace hands out: an `mx.array` that can be saved, and edited while its site is open.

MLX arrays are mutable handles, so an edit in place (`x[:, 4] = v`, `x *= 2`) needs no machinery: when the pass
goes on, the tap returns the handle's value. What this class adds is loudness: an edit after the pass went by
raises, and so does an index past the end, which MLX itself lets through.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import EditError, OrderError, PositionError
from ..finite import real


class Hand:
    """Whether the activation that a body holds can still change the pass."""

    __slots__ = ("done", "edits", "name", "now", "open", "touched", "views")

    def __init__(self, name: str, open: bool = True, done: bool = False, now: str = ""):
        self.name = name
        self.open = open  # the pass waits at this site
        self.done = done  # the pass is over, or never saw it: the array is the user's own
        self.touched = False
        self.now = now  # where the pass is, when it went on
        self.edits = 0
        self.views: list[View] = []

    def close(self) -> None:
        """The pass is over: what was handed out is the user's own from here on."""
        self.open, self.done = False, True
        for view in self.views:
            view.parent = None
        self.views = []


class View:
    """Where an array was cut from: `take(parent)` is its value, `put(parent, value)` writes it back."""

    __slots__ = ("edits", "parent", "put", "take")

    def __init__(self, parent: Activation, take: Take, put: Put):
        self.parent: Activation | None = parent
        self.take, self.put = take, put
        self.edits = parent.hand.edits  # how often the site had been edited when the values were the same


class Activation(mx.array):
    """An activation `[B, T, ...]`: everything an `mx.array` is, with `save`, `copy` and checked edits.

    What is cut out of it (by an index, by iterating, `reshape`, `flatten`, `squeeze`, `split` and the transposes)
    is a view: it shows the values of that moment, and what is written to it is written to the site. What is
    computed (arithmetic, `mx` functions, `astype`, `copy`) is an array of its own, free to edit.
    """

    hand = Hand("the array", open=False, done=True)
    _view: View | None = None
    _copied: Hand | None = None  # the site that this is a copy of

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
        made = Activation.of(self, Hand(self.hand.name, open=False, done=True))
        made._copied = self._copied or self.hand
        return made

    __copy__ = copy

    def __deepcopy__(self, memo: dict) -> Activation:
        return self.copy()

    def astype(self, *args: Any, **kwargs: Any) -> mx.array:
        """A copy in another dtype, free to edit without any effect on the pass."""
        return Activation.copy(Activation.of(super().astype(*args, **kwargs), self.hand))

    @property
    def at(self) -> At:
        """`x.at[index].set(v)`, `.add(v)` and so on: a changed copy."""
        return At(self)

    # ---- cutting: views, while there is a site to write to

    def _cut(self, made: mx.array, take: Take, put: Put) -> mx.array:
        if self.hand.done:
            return made
        cut = Activation.of(made, self.hand)
        cut._view = View(self, take, put)
        self.hand.views.append(cut._view)
        return cut

    def __getitem__(self, index: Any) -> mx.array:
        check_index(index, self.shape, self.hand.name)
        index = plain_index(index)
        return self._cut(
            super().__getitem__(index),
            lambda x: x[index],
            lambda x, value: mx.array.__setitem__(x, index, value),
        )

    def __iter__(self) -> Iterator[mx.array]:
        if not self.ndim:
            raise PositionError(f"{self.hand.name} is a single number and cannot be iterated")
        return (self[i] for i in range(self.shape[0]))

    def _reshaped(self, made: mx.array) -> mx.array:
        shape = made.shape
        return self._cut(
            made,
            lambda x: x.reshape(shape),
            lambda x, value: mx.array.__setitem__(x, ..., value.reshape(x.shape)),
        )

    def reshape(self, *args: Any, **kwargs: Any) -> mx.array:
        """A view in another shape."""
        return self._reshaped(super().reshape(*args, **kwargs))

    def flatten(self, *args: Any, **kwargs: Any) -> mx.array:
        """A view with axes joined."""
        return self._reshaped(super().flatten(*args, **kwargs))

    def squeeze(self, *args: Any, **kwargs: Any) -> mx.array:
        """A view without axes of length 1."""
        return self._reshaped(super().squeeze(*args, **kwargs))

    def _permuted(self, axes: list[int]) -> mx.array:
        back = [axes.index(i) for i in range(len(axes))]
        return self._cut(
            mx.array.transpose(self, axes),
            lambda x: x.transpose(axes),
            lambda x, value: mx.array.__setitem__(x, ..., value.transpose(back)),
        )

    def transpose(self, *axes: Any, stream: Any = None) -> mx.array:
        """A view with the axes in another order; reversed when none are given."""
        return self._permuted(_order(mx.array.transpose(self, *axes), self, lambda a: a.transpose(*axes)))

    def swapaxes(self, axis1: int, axis2: int, stream: Any = None) -> mx.array:
        """A view with two axes swapped."""
        made = mx.array.swapaxes(self, axis1, axis2)
        return self._permuted(_order(made, self, lambda a: a.swapaxes(axis1, axis2)))

    def moveaxis(self, source: int, destination: int, stream: Any = None) -> mx.array:
        """A view with one axis moved."""
        made = mx.array.moveaxis(self, source, destination)
        return self._permuted(_order(made, self, lambda a: np.moveaxis(a, source, destination)))

    @property
    def T(self) -> mx.array:
        """A view with the axes reversed."""
        return self.transpose()

    @property
    def mT(self) -> mx.array:
        """A view with the last two axes swapped."""
        return self.swapaxes(-1, -2)

    def split(self, indices_or_sections: Any, axis: int = 0, stream: Any = None) -> list[mx.array]:
        """Views of consecutive parts along an axis."""
        sizes = [part.shape[axis] for part in mx.array.split(self, indices_or_sections, axis)]
        ends = np.cumsum(sizes).tolist()
        before = (slice(None),) * (axis % self.ndim)
        return [self[(*before, slice(end - size, end))] for size, end in zip(sizes, ends, strict=True)]

    # ---- editing

    def __setitem__(self, index: Any, value: Any) -> None:
        references = sys.getrefcount(self)  # before anything below adds some
        self.editable(references)
        check_index(index, self.shape, self.hand.name, edit=True)
        real(value, self.hand.name)
        try:
            super().__setitem__(plain_index(index), _plain_value(value))
        except (ValueError, TypeError, IndexError) as error:
            got = tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
            raise EditError(
                f"cannot put {got} into {self.hand.name}{tuple(self.shape)} at that index: {error}"
            ) from error
        self._written()

    def editable(self, references: int = 0) -> None:
        """Note an edit; OrderError or EditError when it could not take effect.

        references: of the array, as `sys.getrefcount` counts them inside the special method that edits.
        """
        hand = self.hand
        if not hand.open and not hand.done:
            raise OrderError(
                f"{hand.name} has gone by: the pass is at {hand.now or 'a later site'}, so this edit could not "
                "take effect. Edit a site before asking for a later one, or edit a copy (`y = x.copy()`)"
            )
        if self._copied is not None and not self._copied.done and references == TEMPORARY:
            raise EditError(
                f"this edits a copy of {hand.name} that nothing holds, so it has no effect: edit the site itself, "
                "or keep the copy (`y = x.copy()`), edit it, and assign it to `.output`"
            )
        if hand.open and not self._current():
            raise EditError(
                f"a part of {hand.name} was taken, the site was edited there, and now the part is written to: which "
                "values are meant? Take the part again (`x = site.output[...]`) after editing the site"
            )
        hand.touched = True

    def _current(self) -> bool:
        """Whether a view still shows the values that are at its place of the site."""
        view = self._view
        if view is None or view.parent is None or view.edits == self.hand.edits:
            return True
        if not view.parent._current():
            return False
        try:
            return mx.array_equal(view.take(mx.array(view.parent)), self, equal_nan=True).item()
        except ValueError:
            return False  # being differentiated: there are no values to compare

    def _written(self) -> None:
        """Pass on what was just written: to what this was cut from, and so to the site."""
        part, hand = self, self.hand
        hand.edits += 1
        while hand.open and part._view is not None:
            view = part._view
            view.put(view.parent, mx.array(part))
            view.edits, part = hand.edits, view.parent


Take = Callable[[mx.array], mx.array]
Put = Callable[[mx.array, mx.array], None]


def _order(made: mx.array, x: mx.array, same: Callable[[np.ndarray], np.ndarray]) -> list[int]:
    """The order of axes that a transposing method asks for; `made` is there to have MLX check its arguments."""
    return [n - 2 for n in same(np.empty(range(2, x.ndim + 2), bool)).shape]


def _references(edited: str) -> int:
    """How many references an edited array has inside `__setitem__`: of a temporary, or of a variable."""
    found = []

    class Counted:
        def __setitem__(self, index, value):
            found.append(sys.getrefcount(self))

    def variable():
        x = Counted()
        x[0] = 0

    Counted()[0] = 0
    variable()
    return found[0] if edited == "temporary" else found[1]


# Where Python lends references, a temporary and a variable look the same, and neither is taken for the other.
TEMPORARY = _references("temporary") if _references("temporary") < _references("variable") else -1


def _plain_value(value: Any) -> Any:
    """A NumPy array or number as MLX takes it."""
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    if value.dtype.kind not in "biufc":
        raise TypeError(f"{value.dtype} values are no numbers")
    return mx.array(value)


def _in_place(name: str):
    plain = getattr(mx.array, f"__i{name}__")

    def edit(self, other):
        self.editable()
        real(other, self.hand.name)
        if name == "matmul":
            return _matmul(self, other)
        try:
            other = _plain_value(other)
            if isinstance(other, mx.array):
                other = self._operand(mx.array(other))
            result = plain(self, other)
        except (ValueError, TypeError) as error:
            if isinstance(error, EditError):
                raise
            raise EditError(f"cannot edit {self.hand.name} ({self.dtype}) in place: {error}") from error
        if result is NotImplemented:
            raise EditError(f"cannot combine {self.hand.name} with {type(other).__name__} in place")
        self._written()
        return result

    return edit


def _matmul(self: Activation, other: Any) -> Activation:
    """`x @= w`: the product must have x's own shape."""
    other = mx.array(other) if isinstance(other, np.ndarray) and other.dtype.kind in "iuf" else other
    if not isinstance(other, mx.array):
        raise EditError(f"{self.hand.name} cannot be multiplied by {type(other).__name__} with @=")
    try:
        product = mx.array(self) @ other
    except ValueError as error:
        raise EditError(f"{self.hand.name}{tuple(self.shape)} @= {tuple(other.shape)}: {error}") from error
    if product.shape != self.shape or not mx.issubdtype(product.dtype, mx.floating):
        raise EditError(
            f"{self.hand.name} has shape {tuple(self.shape)}; @= would make it {tuple(product.shape)} "
            f"of {product.dtype}"
        )
    mx.array.__setitem__(self, ..., product.astype(self.dtype))
    self._written()
    return self


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
for _name in (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"),
    *("and", "or", "xor", "lshift", "rshift"),
):
    setattr(Activation, f"__i{_name}__", _in_place(_name))


class At:
    """`x.at[index].set(v)`, `.add(v)` and so on: a changed copy, which must not be thrown away."""

    def __init__(self, x: Activation, index: Any = None):
        self._x, self._index = x, index

    def __getitem__(self, index: Any) -> At:
        check_index(index, self._x.shape, self._x.hand.name, edit=True)
        return At(self._x, plain_index(index))

    def set(self, value: Any) -> Activation:
        """A copy with `value` at the index; EditError when the copy is thrown away."""
        self._used("set", sys._getframe(1))
        changed = self._x.copy()
        changed[self._index] = value
        return changed

    def _used(self, name: str, caller: Any) -> None:
        if not self._x.hand.done and _throws_away(caller):
            raise EditError(
                f".at[...].{name}(...) gives a changed copy of {self._x.hand.name} and leaves the site as it is, and "
                "this copy is thrown away: assign it to `.output`, or edit the site itself (`x[...] = value`)"
            )


def _at(name: str):
    def change(self: At, value: Any) -> mx.array:
        self._used(name, sys._getframe(1))
        return getattr(mx.array(self._x).at[self._index], name)(_plain_value(value))

    return change


for _name in ("add", "subtract", "multiply", "divide", "maximum", "minimum"):
    setattr(At, _name, _at(_name))


def _throws_away(caller: Any) -> bool:
    """Whether the call that a frame is making stands as a statement of its own: its result is popped."""
    code, at = caller.f_code.co_code, caller.f_lasti + 2
    while at < len(code) and code[at] == 0:  # what the interpreter caches behind a call
        at += 2
    return at < len(code) and code[at] == dis.opmap["POP_TOP"]


def plain_index(index: Any) -> Any:
    """The index in the types that MLX takes, on handles of its own: what the caller does to theirs is theirs."""
    if isinstance(index, tuple):
        return tuple(part for item in index for part in _plain_parts(item, beside=True))
    parts = _plain_parts(index, beside=False)
    return parts[0] if len(parts) == 1 else tuple(parts)


def _plain_parts(part: Any, beside: bool) -> list[Any]:
    if isinstance(part, np.generic):
        return [part.item()]
    if isinstance(part, (list, range)) and len(part):
        part = np.array(part)
    if _is_mask(part):  # MLX reads by no mask, and takes none beside another index
        try:
            return [mx.array(axis) for axis in np.nonzero(np.array(part))]
        except ValueError:
            return [part]  # it is being differentiated and has no values yet
    return [mx.array(part)] if isinstance(part, (np.ndarray, mx.array)) else [part]


def _is_mask(part: Any) -> bool:
    return hasattr(part, "dtype") and part.dtype in (mx.bool_, np.bool_) and part.ndim > 0


def check_index(index: Any, shape: tuple[int, ...], name: str, edit: bool = False) -> None:
    """Raise PositionError when `index` lies outside `shape`.

    Integers must be inside always. A slice that is read is cut off at the end, as everywhere in Python; a slice
    that is edited must lie inside and select something, because an edit that quietly does less misleads.
    """
    parts = [_listed(part, name) for part in (index if isinstance(index, tuple) else (index,))]
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
            _check_integers(part, shape, axis, name, edit)
        axis += _axes_taken(part)


def _listed(part: Any, name: str) -> Any:
    """A list as the array that it means: a list of booleans is a mask."""
    if not isinstance(part, list) or not part:
        return part
    try:
        return np.array(part)
    except ValueError as error:
        raise PositionError(f"{name} cannot be indexed by {part!r}: {error}") from None


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


def _check_integers(part: Any, shape: tuple[int, ...], axis: int, name: str, edit: bool) -> None:
    if isinstance(part, (bool, str, float)):
        raise PositionError(f"{name} cannot be indexed by {part!r}")
    try:
        values = np.array(part)
    except ValueError:
        return  # an index that is itself being differentiated has no values yet
    if not values.size:
        if edit:
            raise PositionError(f"an empty list at axis {axis} of {name}{tuple(shape)} selects nothing")
        return
    if values.dtype.kind not in "iu":
        raise PositionError(f"{name} cannot be indexed by {values.dtype} values")
    size = shape[axis]
    bad = values[(values < -size) | (values >= size)] if values.dtype.kind == "i" else values[values >= size]
    if bad.size:
        raise PositionError(
            f"index {int(bad.reshape(-1)[0])} is outside axis {axis} of {name}{tuple(shape)}: 0 to {size - 1}"
        )
