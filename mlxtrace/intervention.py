"""An intervention: a named function array -> array, which knows the token positions that it acts at.

While text is generated, an array of a pass holds the prompt, or one new token: `Window` says which positions it
holds, so that positions always count from the prompt's start, and notes what acted where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import mlx.core as mx

from .arguments import TEXTS, as_integer, positions_in
from .errors import EditError, InputError, PositionError
from .values import Positions, index_of

Edit = Callable[[mx.array], mx.array]


class Intervention:
    """A named function array -> array, as those of `interventions` are; the name is what errors and plans print.

    Args:
        name: what is printed.
        fn: `fn(x)`, or with positions `fn(x, index)`, where the index `[n]` holds them as numbers of 0 or more.
        *positions: where it acts, as they were given, if not everywhere.
        parts: the functions that it is composed of.

    Attributes:
        sites: where the directions in it were taken; it is refused elsewhere.
    """

    def __init__(
        self,
        name: str,
        fn: Callable[..., mx.array],
        *positions: Positions,
        parts: Sequence[Edit] = (),
    ):
        self.__name__ = name
        self._fn = fn
        self.positions, self.parts = positions, parts
        self.sites = tuple(site for part in parts for site in getattr(part, "sites", ()))

    def __call__(self, x: mx.array) -> mx.array:
        if not self.positions:
            return self._fn(x)
        window = _here.get()
        if window is not None:
            return window.act(self, self._fn, x)
        return self._fn(x, index_of(x, self.positions[0], self.__name__))

    def __repr__(self) -> str:
        return self.__name__


def positioned(fn: Edit) -> Iterator[Intervention]:
    """Of what a function is composed of, the interventions that act at some positions only."""
    if isinstance(fn, Intervention):
        if fn.positions:
            yield fn
        for part in fn.parts:
            yield from positioned(part)


def direction_site(value: object) -> str | None:
    """Where a direction was taken; None for any other value."""
    return getattr(value, "site", None) if hasattr(value, "__mlx_array__") else None


def only_at(value: object, made: Intervention) -> Intervention:
    """The intervention, refused anywhere but where its value was taken if that is a direction."""
    site = direction_site(value)
    made.sites = () if site is None else (site,)
    return made


class Window:
    """The token positions that an array of a pass holds on its axis 1, while text is generated.

    Args:
        start: the first of them, from the start of the prompt.
        length: how many there are.
        prompt: the prompt's length, which negative positions count back from.
        first: by intervention, the first position at which it acted; None where it was asked and has not acted yet.
        name: of the site, for errors.
        counts: whether positions are told apart along axis 1; False where another axis holds them.
    """

    def __init__(
        self,
        start: int,
        length: int,
        prompt: int,
        first: dict[Intervention, int | None],
        name: str,
        counts: bool,
    ):
        self.start, self.length, self.prompt = start, length, prompt
        self.first, self.name, self.counts = first, name, counts

    def run(self, fn: Edit, x: mx.array) -> mx.array:
        """fn(x), whose interventions act at those of their positions that x holds."""
        token = _here.set(self)
        try:
            return fn(x)
        finally:
            _here.reset(token)

    def act(self, edit: Intervention, fn: Callable[[mx.array, mx.array], mx.array], x: mx.array) -> mx.array:
        """What an intervention with positions makes of x `[B, length, ...]`: x itself where it has none of them."""
        if not self.counts or x.ndim < 2 or x.shape[1] != self.length:
            raise EditError(
                f"{edit} at {self.name}: which token each part of {list(x.shape)} belongs to cannot be told while text "
                "is generated, as axis 1 does not hold the tokens: name another site, or give no positions"
            )
        end = self.start + self.length
        chosen = absolute(edit.positions[0], self.prompt, end)
        inside = [p for p in chosen if self.start <= p < end]
        if not inside:
            self.first.setdefault(edit, None)
            return x
        if self.first.get(edit) is None:
            self.first[edit] = min(inside)
        if len(inside) == len(chosen) and not self.start:
            return fn(x, mx.array(chosen))
        # a value may have a row for each of the positions, so the edit sees the place of all of them
        whole = mx.zeros((x.shape[0], max(max(chosen) + 1, end), *x.shape[2:]), x.dtype)
        whole[:, self.start : end] = x
        return fn(whole, mx.array(chosen))[:, self.start : end]


_here: ContextVar[Window | None] = ContextVar("mlxtrace_window", default=None)


def starts_at() -> int:
    """The position of the first token of what is edited now: 0 but in the pass of a new token."""
    window = _here.get()
    return 0 if window is None else window.start


def absolute(positions: Any, prompt: int, end: int) -> list[int]:
    """Positions from the start of a prompt of `prompt` tokens, in the order given; an open slice ends at `end`.

    Raises:
        PositionError: one lies before the prompt's start. InputError: they are no positions, or repeat.
    """
    if isinstance(positions, slice):
        step = 1 if positions.step is None else as_integer(positions.step)
        start = 0 if positions.start is None else _from_start(positions.start, prompt)
        stop = end if positions.stop is None else _from_start(positions.stop, prompt)
        if step is None or step < 1:
            raise InputError(
                f"A slice of positions that runs on in new tokens has a step of 1 or more: {positions!r}"
            )
        return list(range(start, stop, step))
    given = positions.tolist() if hasattr(positions, "tolist") else positions
    listed = list(given) if isinstance(given, Sequence) and not isinstance(given, TEXTS) else [given]
    found = [_from_start(p, prompt) for p in listed]
    return positions_in(found, max(found, default=0) + 1)


def _from_start(position: Any, prompt: int) -> int:
    """A position from the prompt's start; PositionError when it lies before it, InputError when it is none."""
    number = as_integer(position)
    if number is None:
        region = (
            f"; those of a region are model.prompt(...).regions[{position!r}]"
            if isinstance(position, str)
            else ""
        )
        raise InputError(
            f"Positions are an int, a list of ints, a slice or a range, not {position!r}{region}."
        )
    if number < -prompt:
        raise PositionError(f"Position {number} lies before the prompt, which has {prompt} tokens.")
    return number + prompt if number < 0 else number
