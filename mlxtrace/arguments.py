"""Numbers as users give them: whole numbers, positions, layers, heads. One parser for each, for every experiment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .errors import InputError, PositionError

TEXTS = (str, bytes, bytearray, memoryview)  # their items are characters or numbers, which nobody means


def as_integer(value: Any) -> int | None:
    """An int, a NumPy integer, or an array of one and no axes, as an int; None for anything else, bools included."""
    if isinstance(value, bool | np.bool_):
        return None
    if hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else None


def whole_number(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """An argument that counts something; InputError when it is no integer of `least` or more, and up to `most`."""
    number = as_integer(value)
    if number is None or number < least or (most is not None and number > most):
        valid = f"of {least} or more" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} is a whole number {valid}, not {value!r}")
    return number


def true_or_false(name: str, value: Any, hint: str = "") -> bool:
    """An argument that is a yes or a no; InputError for anything else, with what may have been meant."""
    if not isinstance(value, bool):
        raise InputError(f"{name} is True or False, not {value!r}" + (f"; {hint}" if hint else ""))
    return value


def positions_in(positions: int | slice | range | Sequence[int], length: int) -> list[int]:
    """Token positions as a list of ints in 0..length-1; negative ones count from the end.

    PositionError when one lies outside or none is left; InputError when they are no positions, or repeat.
    """
    valid = f"{-length}..{length - 1}"
    if isinstance(positions, slice):
        ends = [e for e in (positions.start, positions.stop) if e is not None]
        if any(
            as_integer(e) is None for e in (*ends, 1 if positions.step is None else positions.step or None)
        ):
            raise InputError(f"A slice of positions has whole numbers and no step of 0, not {positions!r}.")
        if any(not -length <= e <= length for e in ends):
            raise PositionError(f"{positions} reaches past the prompt: its {length} positions are {valid}.")
        found = list(range(*positions.indices(length)))
    else:
        given: Any = positions
        given = given.tolist() if hasattr(given, "tolist") else given
        found = list(given) if isinstance(given, Sequence) and not isinstance(given, TEXTS) else [given]
    numbers = [as_integer(p) for p in found]
    found = [p for p in numbers if p is not None]
    if len(found) < len(numbers):
        name = positions if isinstance(positions, str) else None
        region = f"; those of a region are model.prompt(...).regions[{name!r}]" if name else ""
        raise InputError(
            f"Positions are an int, a list of ints, a slice or a range, not {positions!r}{region}."
        )
    outside = [p for p in found if not -length <= p < length]
    if outside:
        raise PositionError(
            f"Position {outside[0]} is outside the prompt: its {length} positions are {valid}."
        )
    if not found:
        raise PositionError(
            f"{positions!r} selects no position: the prompt's {length} positions are {valid}."
        )
    found = [p % length for p in found]
    if len(set(found)) < len(found):
        raise InputError(f"Positions {positions!r} name the same token twice.")
    return found


def indices_in(what: str, given: Any, n: int) -> list[int]:
    """Layers or heads, given as a number or several, as a list of ints in 0..n-1; negative ones count from the end.

    what: "layer" or "head", for errors. InputError when they are no whole numbers, repeat, or are none;
    PositionError when one does not exist.
    """
    values = given.tolist() if hasattr(given, "tolist") else given
    alone = isinstance(values, (*TEXTS, Mapping)) or not isinstance(values, Iterable)
    numbers = []
    for value in [values] if alone else list(values):
        number = as_integer(value)
        if number is None:
            raise InputError(f"{what}s are whole numbers, not {value!r}")
        if not -n <= number < n:
            raise PositionError(f"{what} {number} does not exist: this model has {what}s 0 to {n - 1}")
        numbers.append(number % n)
    if not numbers or len(set(numbers)) < len(numbers):
        raise InputError(f"{what}s={given!r}: name at least one {what}, and each once")
    return numbers
