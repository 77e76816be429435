"""What results share when they print: a page of lines and notes, bars drawn with characters, the strongest rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arguments import whole_number
from ..notebook import Displayed
from ..plotting.labels import (
    NATURAL,
    OF_A_DIFFERENCE,
    OF_A_MEAN,
    OF_A_RATIO,
    WITHIN,
    describe,
    ends_of,
    one_line,
    over,
    place_of,
    position_label,
    probability,
    quoted,
    run_lines,
    short,
    text_at,
    text_bar,
    uncertain,
)
from ..terminal import padded, width
from .html_tables import CELLS, TINTS, decimals, document, heat, listed, strongest
from .text_maps import ALL, SHADES, across, cut, elided, most_rows, printable, shaded

__all__ = [
    "ALL",
    "CELLS",
    "NATURAL",
    "OF_A_DIFFERENCE",
    "OF_A_MEAN",
    "OF_A_RATIO",
    "SHADES",
    "TINTS",
    "WITHIN",
    "Displayed",
    "across",
    "bars",
    "cut",
    "decimals",
    "describe",
    "document",
    "elided",
    "ends_of",
    "heat",
    "listed",
    "most_rows",
    "over",
    "padded",
    "page",
    "place_of",
    "position_label",
    "probability",
    "quoted",
    "run_lines",
    "shaded",
    "short",
    "strongest",
    "text_at",
    "top_rows",
    "uncertain",
    "width",
]
PROMPT = 300  # characters of a line of a page; of longer ones the middle is left out
BARS, LINE = 24, 112  # columns of a bar at most, and of a table of bars


def page(title: str, lines: Iterable[str], notes: Iterable[str], body: Sequence[str] = ()) -> str:
    """A result in words: a title, what must be known to read it, notes, and under an empty line tables or maps."""
    known = [elided(one_line(line), PROMPT) for line in lines]
    known += [one_line(f"note: {note}") for note in notes]
    return printable(
        "\n".join([elided(title, PROMPT), *(f"  {line}" for line in known), *([""] if body else []), *body])
    )


def bars(
    name: str,
    labels: Sequence[Any],
    columns: Mapping[str, np.ndarray],
    high: float = 0.0,
    halves: Mapping[str, np.ndarray] | None = None,
    unsure: Mapping[str, np.ndarray] | None = None,
    digits: int = 4,
    numbers: Mapping[str, np.ndarray] | None = None,
    of: str = "",
) -> list[str]:
    """A line for each label, with a value and a bar in each column, on one scale, which is said above them.

    high: where the scale ends at least; it never ends before 100 of the last digit that is printed, so that nothing is
    no bar. halves: by column, half-widths of intervals, which stand behind the values; unsure: which of these get a
    `?`. numbers: what is printed, where bars are drawn of something else, such as the change: `of`, in words.
    """
    values, halves, unsure = np.nan_to_num(np.stack([*columns.values()])), halves or {}, unsure or {}
    least = 10.0 ** (2 - digits)
    high, low = max(values.max(initial=0.0), high), min(values.min(initial=0.0), 0.0)
    high = max(high, least + low)
    known = {column: half for column, half in halves.items() if not np.isnan(half).all()}
    wide = 12 if known.keys() & columns.keys() else 0
    left = max([len(name), *(width(str(label)) for label in labels)])
    bar = max(6, min(BARS, (LINE - left - 2) // len(columns) - 12 - wide))
    heads = "".join(f"{column:<{bar + 12 + wide}}" for column in columns)
    lines = [_scale(of, low, high, digits, len(columns)), f"  {name:<{left}}  {heads}".rstrip()]
    for i, label in enumerate(labels):
        cells = []
        for column, of_column in columns.items():
            half = f" ± {known[column][i]:z.{digits}f}" if column in known else ""
            mark = " ?" if column in unsure and unsure[column][i] else ""
            number = (numbers or columns)[column][i]
            drawn = text_bar(np.nan_to_num(of_column[i]), low, high, bar)
            cells.append(f"  {number:z8.{digits}f}{half + mark:<{wide}} {drawn:<{bar}}")
        lines.append(f"  {' ' * (left - width(str(label)))}{label}{''.join(cells)}".rstrip())
    return lines


def _scale(of: str, low: float, high: float, digits: int, columns: int) -> str:
    """What a bar's length means, once for all columns."""
    same = ", the same in every column" if columns > 1 else ""
    negative = ", ▒ below 0" if low <= -0.5 * 10.0**-digits else ""
    return f"  bars{of}: {low:z.{digits}f} to {high:z.{digits}f}{same}{negative}"


def top_rows(
    rows: list[dict[str, Any]], key: str, k: Any, size: Callable[[float], float] = float
) -> list[dict[str, Any]]:
    """The k rows with the largest values under a key, or the largest `size` of these."""
    return sorted(rows, key=lambda row: -size(row[key]))[: whole_number("k", k, 0)]
