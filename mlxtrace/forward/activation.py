"""The array that a trace hands out: an `mx.array` that can be saved, cut, and edited while its site is open."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import EditError, PositionError
from .editing import Editable, Put, SiteState, Take, View, plain_value
from .index import check_index, plain_index

__all__ = ["Activation", "SiteState"]


class Activation(Editable):
    """An activation `[B, T, ...]`: everything an `mx.array` is, with `save`, `copy` and checked edits.

    Made by `.output` and `.input` inside a trace. What is cut out of it (by an index, by iterating, `reshape`,
    `flatten`, `squeeze`, `split` and the transposes) is a view: it shows the values of that moment, and what is
    written to it is written to the site. What is computed (arithmetic, `mx` functions, `astype`, `copy`) is an array
    of its own, free to edit.

    Raises:
        OrderError: an edit after the pass went by. EditError: an edit of a wrong shape or type.
        PositionError: an index outside the array, which MLX itself lets through.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> with model.trace("The Eiffel Tower is in the city of") as trace:
        ...     x = model.layers[3].mlp.output
        ...     before = x.copy()
        ...     last = x[:, -1]
        ...     last *= 2.0
        >>> (x[:, -1] == 2 * before[:, -1]).all().item()
        True
    """

    @classmethod
    def of(cls, x: mx.array, state: SiteState) -> Activation:
        """A handle of its own on the values of `x`."""
        made = cls(x)
        made.state = state
        return made

    def save(self) -> Activation:
        """Keep the array after the block: returns the array itself, not a snapshot.

        Edits made in place later, while the pass still waits at this site, show in it: what was saved is
        what goes on. `x.copy()` before an edit keeps the values from before.
        """
        return self

    def copy(self) -> Activation:
        """A handle of its own on the same values, free to edit without any effect on the pass."""
        made = Activation.of(self, SiteState(self.state.name, open=False, free=True))
        made._copied = self._copied or self.state
        return made

    __copy__ = copy

    def __deepcopy__(self, memo: dict) -> Activation:
        return self.copy()

    def astype(self, *args: Any, **kwargs: Any) -> mx.array:
        """A copy in another dtype, free to edit without any effect on the pass."""
        return Activation.copy(Activation.of(super().astype(*args, **kwargs), self.state))

    @property
    def at(self) -> At:
        """`x.at[index].set(v)`, `.add(v)` and so on: a changed copy."""
        return At(self)

    # ---- cutting: views, while there is a site to write to

    def _cut(self, made: mx.array, take: Take, put: Put) -> mx.array:
        if self.state.free:
            return made
        cut = Activation.of(made, self.state)
        cut._view = View(self, take, put)
        self.state.views.append(cut._view)
        return cut

    def __getitem__(self, index: Any) -> mx.array:
        check_index(index, self.shape, self.state.name)
        index = plain_index(index)
        return self._cut(
            super().__getitem__(index),
            lambda x: mx.array(x)[index],
            lambda x, value: mx.array.__setitem__(x, index, value),
        )

    def __iter__(self) -> Iterator[mx.array]:
        if not self.ndim:
            raise PositionError(f"{self.state.name} is a single number and cannot be iterated")
        return (self[i] for i in range(self.shape[0]))

    def _reshaped(self, made: mx.array) -> mx.array:
        shape = made.shape
        return self._cut(
            made,
            lambda x: mx.array(x).reshape(shape),
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
            lambda x: mx.array(x).transpose(axes),
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


def _order(made: mx.array, x: mx.array, same: Callable[[np.ndarray], np.ndarray]) -> list[int]:
    """The order of axes that a transposing method asks for; `made` is there to have MLX check its arguments."""
    return [n - 2 for n in same(np.empty(range(2, x.ndim + 2), bool)).shape]


class At:
    """`x.at[index].set(v)`, `.add(v)` and so on: a changed copy, which must not be thrown away."""

    def __init__(self, x: Activation, index: Any = None):
        self._x, self._index = x, index

    def __getitem__(self, index: Any) -> At:
        check_index(index, self._x.shape, self._x.state.name, edit=True)
        return At(self._x, plain_index(index))

    def set(self, value: Any) -> Activation:
        """A copy with `value` at the index; EditError when the copy is thrown away."""
        self._used("set", sys._getframe(1))
        changed = self._x.copy()
        changed[self._index] = value
        return changed

    def _used(self, name: str, caller: Any) -> None:
        if not self._x.state.free and _throws_away(caller):
            raise EditError(
                f".at[...].{name}(...) gives a changed copy of {self._x.state.name} and leaves the site as it is, and "
                "this copy is thrown away: assign it to `.output`, or edit the site itself (`x[...] = value`)"
            )


def _at(name: str):
    def change(self: At, value: Any) -> mx.array:
        self._used(name, sys._getframe(1))
        return getattr(mx.array(self._x).at[self._index], name)(plain_value(value))

    return change


for _name in ("add", "subtract", "multiply", "divide", "maximum", "minimum"):
    setattr(At, _name, _at(_name))


def _throws_away(caller: Any) -> bool:
    """Whether the call that a frame is making stands as a statement of its own: its result is popped."""
    code, at = caller.f_code.co_code, caller.f_lasti + 2
    while at < len(code) and code[at] == 0:  # what the interpreter caches behind a call
        at += 2
    return at < len(code) and code[at] == dis.opmap["POP_TOP"]
