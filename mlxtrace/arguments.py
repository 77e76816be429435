"""Numbers as users give them: whole numbers, positions, layers, heads. One parser for each, for every experiment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InputError, PositionError

TEXTS = (str, bytes, bytearray, memoryview)  # their items are characters or numbers, which nobody means
AS_SPANS = "spans have a width: positions=spans(32), after `from mlxtrace import spans`"
REFINED = 0.25  # of the largest effect: spans from there on are refined


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
    if isinstance(positions, Spans) or positions is spans:
        said = positions if isinstance(positions, Spans) else "spans, which needs a width, spans(32),"
        raise InputError(f"positions={said} goes with activation_patching and causal_trace alone")
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


# ---- spans


@dataclass(frozen=True)
class Spans:
    """What `spans` returns: positions in runs of `width` tokens, refined from a share of the largest effect on."""

    width: int
    refine: float | None = REFINED

    def __str__(self) -> str:
        return f"spans({self.width}{'' if self.refine == REFINED else f', refine={self.refine}'})"

    __repr__ = __str__


def spans(width: int, refine: float | None = REFINED) -> Spans:
    """Positions for a long prompt, coarse to fine: runs of tokens first, then every token of those that matter.

    `positions=spans(32)` of `activation_patching` and `causal_trace` patches the tokens of a span together, and so each
    span of the prompt. Where a span moves the metric by `refine` of the largest effect of any span or more, in any
    layer and up or down, each of its tokens is patched by itself as well. Rows of the result are called by their
    positions: `"512-543"` is a span, 519 one token. Each number is a patch that was made; nothing is interpolated.

    Spans are counted from the first position that can differ; all tokens before it are one. The last may be shorter.

    What this cannot find: tokens of a span that is not refined, whose effects cancel each other there. And what a span
    does is what its tokens do together, which is not the sum of what each does alone: some need each other's company.

    Args:
        width: tokens of a span, 2 or more.
        refine: the share of the largest effect, above 0 and up to 1; a smaller one misses less and takes more cells.
            None: spans alone.

    Returns:
        What `positions=` takes.

    Raises:
        InputError: for a width or a share that means nothing.

    Example:
        >>> from mlxtrace import InterpretableModel, spans
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> result = model.activation_patching(*prompts, component="resid_post", positions=spans(4), progress=False)
        >>> result.dims, result.coords["position"][:4]
        (('layer', 'position'), ['0-1', '2-5', 2, 3])
        >>> result.settings["spans"]["refined"]
        ['2-5', '6-9']
    """
    width = whole_number("the width of spans", width, 2)
    given: Any = refine
    share = given.item() if hasattr(given, "dtype") and not getattr(given, "ndim", 1) else given
    number = isinstance(share, int | float) and not isinstance(share, bool)
    if share is not None and not (number and 0 < share <= 1):
        raise InputError(
            f"refine is a share of the largest effect, above 0 and up to 1, or None for spans alone; not {refine!r}"
        )
    return Spans(width, None if share is None else float(share))


def runs_of(pairs: Sequence[tuple[int, int]], first: int, width: int) -> list[list[int]]:
    """Pairs of positions, in their order, as runs of clean ones: those before `first` together, then `width` at a time.

    A run ends where either prompt has a position between that the other has not.
    """
    found: list[list[int]] = []
    before = None
    for clean, other in pairs:
        follows = before == (clean - 1, other - 1) and clean != first
        if follows and (clean < first or len(found[-1]) < width):
            found[-1].append(clean)
        else:
            found.append([clean])
        before = clean, other
    return found


def label_of(positions: Sequence[int]) -> int | str:
    """What a run of positions is called: 519, or "512-543"."""
    return positions[0] if len(positions) == 1 else f"{positions[0]}-{positions[-1]}"


def ends_of(label: int | str) -> tuple[int, int]:
    """The first and the last position of what is called so."""
    first, _, last = str(label).partition("-")
    return int(first), int(last or first)


def text_at(label: int | str, text: Callable[[int], str]) -> str:
    """The token of a position, or the first and the last one of a span. text: of a position."""
    if not isinstance(label, str):
        return text(label)
    first, last = ends_of(label)
    return f"{text(first)} … {text(last)}"
