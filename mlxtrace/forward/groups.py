"""What a trace of prompts of several lengths hands out: an array for each length, read and edited by prompt.

    h = model.layers[5].output        # 3 prompts in 2 groups by length
    h[1][4] = v                       # of prompt 1, the token at position 4
    h[:, -1] *= 2                     # the last token of each: [3, D], in the order of the prompts
    for group in h.groups: ...        # group.array [n, T, D] of the prompts of one length, group.prompts

Nothing is padded, so there is no one array: what only one array has raises LengthsError.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx

from ..errors import EditError, LengthsError
from .editing import TEMPORARY, SiteState, plain_value, real
from .selection import Activation, Group, Part, joined, select


class Groups:
    """Arrays of prompts of several lengths: `h[i]` is prompt i's, `h[:, -1]` the last token of each.

    Made by `.output` and `.input` inside a trace of such prompts, and by its `output` and `activations`. An index whose
    first part is a prompt means that prompt's array. One whose first part is a slice or a list of prompts means the
    same place in each: one array in the order of the prompts, `[B, ...]`, where that has one shape; else `Groups`
    again. All of it is read and written as in an `Activation`. What is written is one value for all (a number, a
    vector), or a list with one for each prompt.

    Attributes:
        groups: `.prompts`, `.array` and `.tokens` of each length; the arrays are those of the passes, `Activation`s.

    Raises:
        LengthsError: what needs one array (`h + x`, `h.shape`). PositionError: an index outside one of the prompts.
        EditError: a value that does not fit all. OrderError: an edit after the pass went by.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> with model.trace(["The Louvre is in", "The Eiffel Tower is in", "The Prado is in"]):
        ...     h = model.layers[5].output.save()
        ...     h[0][3] = 0.0
        ...     h[:, -1] *= 2.0
        >>> h
        model.layers.5: 3 prompts in 2 groups by length (nothing is padded)
          prompt 0 of 6 tokens: [1, 6, 128]
          prompts 1, 2 of 7 tokens: [2, 7, 128]
        [i] is one prompt's, [:, -1] the last token of each, .groups the arrays
        >>> h[1].shape, h[:, -1].shape, [len(x) for x in h]
        ((7, 128), (3, 128), [6, 7, 7])
    """

    def __init__(self, name: str, groups: Sequence[Group], copied: bool = False):
        self.groups = list(groups)
        self._name, self._copied = name, copied

    # ---- what it is

    def __len__(self) -> int:
        return sum(len(group.prompts) for group in self.groups)

    def __iter__(self) -> Iterator[mx.array]:
        return (self[i] for i in range(len(self)))

    @property
    def dtype(self) -> mx.Dtype:
        """Of all arrays."""
        return self.groups[0].array.dtype

    @property
    def ndim(self) -> int:
        """Of each array."""
        return self.groups[0].array.ndim

    def save(self) -> Groups:
        """Keep the arrays after the block, as `Activation.save` does."""
        return self

    def copy(self) -> Groups:
        """Handles of their own on the same values, free to edit without any effect on the passes."""
        made = [group._replace(array=group.array.copy()) for group in self.groups]
        return Groups(self._name, made, copied=True)

    __copy__ = copy

    def __deepcopy__(self, memo: dict) -> Groups:
        return self.copy()

    def __repr__(self) -> str:
        rows = [f"  {group}: {list(group.array.shape)}" for group in self.groups]
        uses = "[i] is one prompt's, [:, -1] the last token of each, .groups the arrays"
        return "\n".join([f"{self._summary()} (nothing is padded)", *rows, uses])

    def _summary(self) -> str:
        lengths = f"in {len(self.groups)} groups by length" if len(self.groups) > 1 else "of one length"
        return f"{self._name}: {len(self)} prompt{'s' * (len(self) > 1)} {lengths}"

    # ---- reading

    def __getitem__(self, index: Any) -> Any:
        parts, alone = select(self._name, self.groups, index)
        if alone:
            (part,) = parts.values()
            return part.array[(*part.rows, *part.rest)]
        taken = {tokens: part.taken() for tokens, part in parts.items()}
        if len(taken) == 1:
            return next(iter(taken.values()))
        if len({x.shape[1:] for x in taken.values()}) == 1:
            return joined(list(parts.values()))
        made = [Group(tuple(parts[n].places), held(x, self._name), n) for n, x in taken.items()]
        return Groups(self._name, made, self._copied)

    # ---- writing

    def __setitem__(self, index: Any, value: Any) -> None:
        if self._copied and sys.getrefcount(self) == TEMPORARY:
            raise EditError(
                f"this edits a copy of {self._name} that nothing holds, so it has no effect: edit the site itself"
            )
        parts, alone = select(self._name, self.groups, index, edit=True)
        if alone:
            (part,) = parts.values()
            part.array[(*part.rows, *part.rest)] = value
            return
        values = self._values(value, parts)
        for part in parts.values():
            part.array.editable()
        for tokens, part in parts.items():
            part.put(values[tokens])

    def _values(self, value: Any, parts: dict[int, Part]) -> dict[int, Any]:
        """What each part is given: a number, or a row for each prompt; EditError when the value does not fit all."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            return dict.fromkeys(parts, value)
        n = sum(len(part.places) for part in parts.values())
        shapes = {tokens: part.value().shape[1:] for tokens, part in parts.items()}
        if isinstance(value, list | tuple | Groups):
            each = list(value)
        else:
            value = self._array(value)
            by_row = value.ndim == 1 + len(next(iter(shapes.values()))) and value.shape[0] != 1
            each = list(value) if by_row else [value] * n
        if len(each) != n:
            raise EditError(
                f"{self._summary()}: {len(each)} values for {n} of them; give one for each, or one for all"
            )
        rows = {
            m: [self._fitted(each[place], shapes[m], m) for place in part.places] for m, part in parts.items()
        }
        return {tokens: mx.stack(found) for tokens, found in rows.items()}

    def _array(self, value: Any) -> mx.array:
        """A value as an array; EditError when it is none of numbers."""
        real(value, self._name)
        try:
            value = plain_value(value)
            return value if isinstance(value, mx.array) else mx.array(float(value))
        except (TypeError, ValueError, OverflowError):
            raise EditError(
                f"{self._name} is given an array or a number for all prompts, or a list of these, not "
                f"{type(value).__name__} {value!r}"
            ) from None

    def _fitted(self, value: Any, shape: tuple[int, ...], tokens: int) -> mx.array:
        """One prompt's value in its shape."""
        value = self._array(value)
        while value.ndim > len(shape) and value.shape[0] == 1:
            value = value[0]
        try:
            return mx.broadcast_to(value, shape)
        except ValueError:
            raise EditError(
                f"{self._name}: {list(value.shape)} does not fit {list(shape)} of a prompt of {tokens} tokens; give a "
                "number or a vector for all prompts, or a list with a value for each"
            ) from None

    # ---- what only one array has

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(mx.array, name):
            raise AttributeError(f"{type(self).__qualname__} has no {name!r}")
        raise self._refused(f".{name}")

    def _refused(self, what: str) -> LengthsError:
        return LengthsError(
            f"{self._summary()}, and so no one array for {what}: take a prompt's (h[i]), the same place in each "
            f"(h[:, -1]), all in turn ([... for x in h]), or the arrays of one length ([... for group in h.groups]); "
            "`h += v` and `h *= v` work on all, in place"
        )

    __hash__ = object.__hash__


def held(x: mx.array, name: str) -> Activation:
    """An array as an `Activation`, the user's own when it is none."""
    return x if isinstance(x, Activation) else Activation.of(x, SiteState(name, open=False, free=True))


def _in_place(name: str) -> Any:
    def edit(self: Groups, value: Any) -> Groups:
        parts = select(self._name, self.groups, slice(None), edit=True)[0]
        values = self._values(value, parts)
        for part in parts.values():
            part.array.editable()
        for tokens, part in parts.items():
            getattr(operator, f"i{name}")(part.array, values[tokens])
        return self

    return edit


def _refuse(name: str) -> Any:
    def refuse(self: Groups, *args: Any, **kwargs: Any) -> Any:
        raise self._refused(name)

    return refuse


_IN_PLACE = ["add", "sub", "mul", "truediv"]
_ARITHMETIC = [*_IN_PLACE, *["floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift"]]
_OTHERS = [
    "neg",
    "abs",
    "invert",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "bool",
    "float",
    "int",
    "contains",
    "array",
    "array_ufunc",
    "array_function",
]
for _name in _IN_PLACE:
    setattr(Groups, f"__i{_name}__", _in_place(_name))
for _name in [*_ARITHMETIC, *(f"r{name}" for name in _ARITHMETIC), *_OTHERS]:
    setattr(Groups, f"__{_name}__", _refuse(_name))

# MLX's functions say of an argument that they do not take the name of its type, and nothing else.
Groups.__name__ = "Groups (of several lengths: give one prompt's, h[i], or the same place in each, h[:, -1])"
