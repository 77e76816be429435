"""Edits in place of an array of a pass: checked, and loud where they could not take effect.

MLX arrays are mutable handles, so an edit in place (`x[:, 4] = v`, `x *= 2`) needs no machinery: when the pass
goes on, the tap returns the handle's value. What `Editable` adds is that a part which was cut out writes back to
where it was cut from, and that an edit after the pass went by raises.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import EditError, OrderError
from ..values import real
from .index import check_index, plain_index

Take = Callable[[Any], mx.array]
Put = Callable[[Any, mx.array], None]


class SiteState:
    """Whether an array that a body was given can still change the pass; shared by all that is cut out of it."""

    __slots__ = ("edited", "free", "gone_to", "name", "open", "views", "writes")

    def __init__(self, name: str, open: bool = True, free: bool = False, gone_to: str = ""):
        self.name = name
        self.open = open  # the pass waits at this site
        self.free = free  # the pass is over, or never saw the array: it is the user's own
        self.gone_to = gone_to  # where the pass is, when it went on
        self.edited = False
        self.writes = 0
        self.views: list[View] = []

    def close(self) -> None:
        """The pass is over: what was handed out is the user's own from here on."""
        self.open, self.free = False, True
        for view in self.views:
            view.parent = None
        self.views = []


class View:
    """Where an array was cut from: `take(parent)` is its value, `put(parent, value)` writes it back."""

    __slots__ = ("parent", "put", "take", "writes")

    def __init__(self, parent: Editable, take: Take, put: Put):
        self.parent: Editable | None = parent
        self.take, self.put = take, put
        self.writes = parent._known_writes()


class Editable(mx.array):
    """An array that can be edited while the pass waits at its site."""

    state = SiteState("the array", open=False, free=True)
    _view: View | None = None
    _copied: SiteState | None = None  # of the site that this is a copy of

    def __setitem__(self, index: Any, value: Any) -> None:
        references = sys.getrefcount(self)  # before anything below adds some
        self.editable(references)
        check_index(index, self.shape, self.state.name, edit=True)
        real(value, self.state.name)
        try:
            super().__setitem__(plain_index(index), plain_value(value))
        except (ValueError, TypeError, IndexError) as error:
            got = tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
            raise EditError(
                f"cannot put {got} into {self.state.name}{tuple(self.shape)} at that index: {error}"
            ) from error
        self._written()

    def _known_writes(self) -> int:
        """How often the site had been written to when its values were those that are shown here."""
        return self.state.writes if self._view is None else self._view.writes

    def editable(self, references: int = 0) -> None:
        """Note an edit; OrderError or EditError when it could not take effect.

        references: of the array, as `sys.getrefcount` counts them inside the special method that edits.
        """
        state = self.state
        if not state.open and not state.free:
            raise OrderError(
                f"{state.name} has gone by: the pass is at {state.gone_to or 'a later site'}, so this edit could not "
                "take effect. Edit a site before asking for a later one, or edit a copy (`y = x.copy()`)"
            )
        if self._copied is not None and not self._copied.free and references == TEMPORARY:
            raise EditError(
                f"this edits a copy of {state.name} that nothing holds, so it has no effect: edit the site itself, "
                "or keep the copy (`y = x.copy()`), edit it, and assign it to `.output`"
            )
        if state.open and not self._current():
            raise EditError(
                f"a part of {state.name} was taken, the site was edited there, and now the part is written to: which "
                "values are meant? Take the part again (`x = site.output[...]`) after editing the site"
            )
        state.edited = True

    def _current(self) -> bool:
        """Whether a view still shows the values that are at its place of the site."""
        view = self._view
        if view is None or view.parent is None or view.writes == self.state.writes:
            return True
        if not view.parent._current():
            return False
        try:
            return bool(mx.array_equal(view.take(view.parent), self, equal_nan=True).item())
        except ValueError:
            return False  # being differentiated: there are no values to compare

    def _written(self) -> None:
        """Pass on what was just written: to what this was cut from, and so to the site."""
        state = self.state
        state.writes += 1
        part: Editable | None = self
        while state.open and part is not None and part._view is not None:
            view = part._view
            if view.parent is not None:
                view.put(view.parent, mx.array(part))
            view.writes, part = state.writes, view.parent


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


def plain_value(value: Any) -> Any:
    """A NumPy array or number as MLX takes it."""
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    if value.dtype.kind not in "biufc":
        raise TypeError(f"{value.dtype} values are not numbers")
    number: Any = value  # MLX takes NumPy's numbers, which its annotations leave out
    return mx.array(number)


def _in_place(name: str):
    plain = getattr(mx.array, f"__i{name}__")

    def edit(self, other):
        self.editable()
        real(other, self.state.name)
        if name == "matmul":
            return _matmul(self, other)
        try:
            other = plain_value(other)
            if isinstance(other, mx.array):
                other = _operand(self, mx.array(other))
            result = plain(self, other)
        except (ValueError, TypeError) as error:
            if isinstance(error, EditError):
                raise
            raise EditError(f"cannot edit {self.state.name} ({self.dtype}) in place: {error}") from error
        if result is NotImplemented:
            raise EditError(f"cannot combine {self.state.name} with {type(other).__name__} in place")
        self._written()
        return result

    return edit


def _matmul(self: Editable, other: Any) -> Editable:
    """`x @= w`: the product must have x's own shape."""
    other = mx.array(other) if isinstance(other, np.ndarray) and other.dtype.kind in "iuf" else other
    if not isinstance(other, mx.array):
        raise EditError(f"{self.state.name} cannot be multiplied by {type(other).__name__} with @=")
    try:
        product = mx.array(self) @ other
    except ValueError as error:
        raise EditError(f"{self.state.name}{tuple(self.shape)} @= {tuple(other.shape)}: {error}") from error
    if product.shape != self.shape or not mx.issubdtype(product.dtype, mx.floating):
        raise EditError(
            f"{self.state.name} has shape {tuple(self.shape)}; @= would make it {tuple(product.shape)} "
            f"of {product.dtype}"
        )
    mx.array.__setitem__(self, ..., product.astype(self.dtype))
    self._written()
    return self


def _operand(self: Editable, other: mx.array) -> mx.array:
    """What an in-place operator may be given: it must neither widen the activation nor change its dtype."""
    try:
        fits = np.broadcast_shapes(tuple(other.shape), tuple(self.shape)) == tuple(self.shape)
    except ValueError:
        fits = False
    if not fits:
        raise EditError(f"{self.state.name} has shape {tuple(self.shape)}, not {tuple(other.shape)}")
    if mx.issubdtype(self.dtype, mx.floating) and mx.issubdtype(other.dtype, mx.floating):
        return other.astype(self.dtype)
    if other.dtype == mx.complex64:
        raise EditError(f"{self.state.name} holds {self.dtype}, not {other.dtype}")
    return other


for _name in (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"),
    *("and", "or", "xor", "lshift", "rshift"),
):
    setattr(Editable, f"__i{_name}__", _in_place(_name))
