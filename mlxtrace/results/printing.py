"""What results share when they print: a page of lines and notes, bars drawn with characters, the strongest rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arguments import whole_number
from ..plotting.labels import probability, quoted, text_bar, text_map
from ..terminal import printable

__all__ = ["SHADES", "bars", "page", "probability", "quoted", "text_map", "top_rows"]
SHADES = "░ ▒ ▓ █ from 5, 25, 45, 65 %"  # what `text_map` draws


def page(title: str, lines: Iterable[str], notes: Iterable[str], body: Sequence[str] = ()) -> str:
    """A result in words: a title, what must be known to read it, notes, and under an empty line tables or maps."""
    known = [*lines, *(f"note: {note}" for note in notes)]
    return printable("\n".join([title, *(f"  {line}" for line in known), *([""] if body else []), *body]))


def bars(
    name: str, labels: Sequence[Any], columns: Mapping[str, np.ndarray], high: float = 1e-9
) -> list[str]:
    """A line for each label, with a value and a bar in each column, on one scale that reaches `high` at least."""
    values = np.stack([*columns.values()])
    high, low = max(values.max(), high), min(values.min(), 0.0)
    lines = [f"  {name}  {''.join(f'{column:<34}' for column in columns)}".rstrip()]
    for label, row in zip(labels, values.T, strict=True):
        cells = [f"  {v:8.4f} {text_bar(v, low, high):<24}" for v in row]
        lines.append(f"  {label:>{len(name)}}{''.join(cells)}".rstrip())
    return lines


def top_rows(rows: list[dict[str, Any]], key: str, k: Any) -> list[dict[str, Any]]:
    """The k rows with the largest values under a key."""
    return sorted(rows, key=lambda row: -row[key])[: whole_number("k", k, 0)]
