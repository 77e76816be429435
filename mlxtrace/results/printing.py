"""What results share when they print: a page of lines and notes, bars drawn with characters, the strongest rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arguments import whole_number
from ..plotting.labels import (
    NATURAL,
    OF_A_DIFFERENCE,
    OF_A_MEAN,
    WITHIN,
    one_line,
    over,
    place_of,
    probability,
    quoted,
    text_bar,
    text_map,
    uncertain,
)
from ..terminal import printable

__all__ = [
    "NATURAL",
    "OF_A_DIFFERENCE",
    "OF_A_MEAN",
    "SHADES",
    "WITHIN",
    "bars",
    "over",
    "page",
    "place_of",
    "probability",
    "quoted",
    "text_map",
    "top_rows",
    "uncertain",
]
SHADES = "░ ▒ ▓ █ from 5, 25, 45, 65 %"  # what `text_map` draws


def page(title: str, lines: Iterable[str], notes: Iterable[str], body: Sequence[str] = ()) -> str:
    """A result in words: a title, what must be known to read it, notes, and under an empty line tables or maps."""
    known = [one_line(line) for line in (*lines, *(f"note: {note}" for note in notes))]
    return printable("\n".join([title, *(f"  {line}" for line in known), *([""] if body else []), *body]))


def bars(
    name: str,
    labels: Sequence[Any],
    columns: Mapping[str, np.ndarray],
    high: float = 1e-9,
    halves: Mapping[str, np.ndarray] | None = None,
    unsure: Mapping[str, np.ndarray] | None = None,
    digits: int = 4,
) -> list[str]:
    """A line for each label, with a value and a bar in each column, on one scale that reaches `high` at least.

    halves: by column, half-widths of intervals, which stand behind the values; unsure: which of these get a `?`.
    """
    values, halves, unsure = np.nan_to_num(np.stack([*columns.values()])), halves or {}, unsure or {}
    high, low = max(values.max(), high), min(values.min(), 0.0)
    known = {column: half for column, half in halves.items() if not np.isnan(half).all()}
    wide = 12 if known.keys() & columns.keys() else 0
    lines = [f"  {name}  {''.join(f'{column:<{34 + wide}}' for column in columns)}".rstrip()]
    for i, label in enumerate(labels):
        cells = []
        for column, of_column in columns.items():
            half = f" ± {known[column][i]:.{digits}f}" if column in known else ""
            mark = " ?" if column in unsure and unsure[column][i] else ""
            cells.append(
                f"  {of_column[i]:8.{digits}f}{half + mark:<{wide}} "
                f"{text_bar(np.nan_to_num(of_column[i]), low, high):<24}"
            )
        lines.append(f"  {label:>{len(name)}}{''.join(cells)}".rstrip())
    return lines


def top_rows(
    rows: list[dict[str, Any]], key: str, k: Any, size: Callable[[float], float] = float
) -> list[dict[str, Any]]:
    """The k rows with the largest values under a key, or the largest `size` of these."""
    return sorted(rows, key=lambda row: -size(row[key]))[: whole_number("k", k, 0)]
