"""What one index takes of arrays of several lengths: a part of each, read as one array and written back to each.

parts = [Part([0, 2], seven, [0, 1], (-1,)), Part([1], nine, [0], (-1,))]
joined(parts)       # [3, D]: the last token of each of three prompts; an edit of it reaches both arrays
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from .activation import Activation, SiteState
from .editing import Editable, View


class Part(NamedTuple):
    """What an index takes of one array `[n, ...]`, whose rows are prompts."""

    places: Sequence[int]  # in what is taken together
    array: Activation
    rows: list[int]  # of the array, one for each place
    rest: tuple = ()  # of the index, behind the rows
    paired: bool = False  # arrays in it have an entry for each row, as NumPy pairs them

    @property
    def whole(self) -> bool:
        """Whether it takes of all rows, as they stand."""
        return not self.paired and self.rows == list(range(self.array.shape[0]))

    def indices(self) -> Iterator[tuple]:
        """The index of each row."""
        for i, row in enumerate(self.rows):
            yield (row, *(int(part[i]) if self.paired and is_listed(part) else part for part in self.rest))

    def taken(self) -> mx.array:
        """What is taken of the array: a view, as long as there is a site to write to."""
        if self.paired:
            return joined([self._replace(places=range(len(self.rows)))])
        rows = self.array if self.whole else self.array[self.rows]
        return rows[(slice(None), *self.rest)] if self.rest else rows

    def value(self) -> mx.array:
        """The values of that, now: an array of its own."""
        if self.paired:
            return mx.stack([mx.array(self.array[index]) for index in self.indices()])
        return mx.array(self.taken())

    def put(self, value: Any) -> None:
        """Write a number, or a value for each row."""
        if self.whole:
            self.array[(slice(None), *self.rest)] = value
            return
        for i, index in enumerate(self.indices()):
            self.array[index] = value[i] if isinstance(value, mx.array) else value


def is_listed(part: Any) -> bool:
    """Whether a part of an index is a list of places."""
    return isinstance(part, list | range) or getattr(part, "ndim", 0) > 0


class JointState(SiteState):
    """The state of what stands in several arrays: it can be edited while all of them can."""

    def __init__(self, states: Sequence[SiteState]):
        self._states = states
        self.name = states[0].name

    @property
    def open(self) -> bool:
        return all(state.open for state in self._states)

    @property
    def free(self) -> bool:
        return all(state.free for state in self._states)

    @property
    def gone_to(self) -> str:
        return next((state.gone_to for state in self._states if state.gone_to), "")

    @property
    def views(self) -> list[View]:
        return self._states[0].views  # which lets go of them when the pass is over

    @property
    def writes(self) -> int:
        return sum(state.writes for state in self._states)

    @writes.setter
    def writes(self, count: int) -> None:
        """Counted where it is written."""


class Source(Editable):
    """Where the rows of a joint array stand."""

    parts: Sequence[Part] = ()

    def _known_writes(self) -> int:
        return sum(part.array._known_writes() for part in self.parts)

    def _current(self) -> bool:
        return all(part.array._current() for part in self.parts)

    def values(self) -> mx.array:
        """What stands there now, in the order of the places."""
        order = np.argsort([place for part in self.parts for place in part.places])
        return mx.concatenate([part.value() for part in self.parts])[mx.array(order)]

    def put(self, value: mx.array) -> None:
        """Write a row to each place."""
        for part in self.parts:
            part.put(value[mx.array(list(part.places))])


def joined(parts: Sequence[Part]) -> mx.array:
    """What is taken of several arrays as one, in the order of the places; after the pass, an array of its own."""
    source = Source(0)
    source.parts = parts
    values, state = source.values(), JointState([part.array.state for part in parts])
    if state.free:
        return values
    source.state, made = state, Activation.of(values, state)
    made._view = View(source, lambda source: source.values(), lambda source, value: source.put(value))
    state.views.append(made._view)
    return made
