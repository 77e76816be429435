"""Tables of tokens for a terminal: cells as wide as they look, also in Chinese, and cut where there is no room."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from .printing import page, probability, quoted, text_map

__all__ = ["cut", "last_that_fit", "padded", "page", "probability", "quoted", "shown", "token_table", "width"]
LINE, CELL = 100, 12  # characters of a line, and of a cell at most


def width(text: str) -> int:
    """The columns that a text takes in a terminal: two for a wide character, none for one that stands on another."""
    return sum(_wide(c) for c in text)


def _wide(c: str) -> int:
    return 0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1


def cut(text: str, most: int) -> str:
    """The text, or as much of its beginning as fits, with `…`."""
    if width(text) <= most:
        return text
    kept, left = "", most - 1
    for c in text:
        left -= _wide(c)
        if left < 0:
            break
        kept += c
    return kept + "…"


def padded(text: str, columns: int) -> str:
    """The text with spaces behind it."""
    return text + " " * (columns - width(text))


def shown(token: str, most: int = CELL) -> str:
    """A token in a table: in quotes, so that its spaces are seen, and cut."""
    return cut(quoted(token), most)


def token_table(
    corner: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[str]]
) -> list[str]:
    """A line for each row, with a token in each column; texts as they are, cut to the width of a cell."""
    grid = [[corner, *(cut(c, CELL) for c in columns)]]
    grid += [[name, *(shown(token) for token in row)] for name, row in zip(rows, cells, strict=True)]
    widths = [max(width(line[j]) for line in grid) for j in range(len(grid[0]))]
    return [
        "  " + "  ".join(padded(x, w) for x, w in zip(line, widths, strict=True)).rstrip() for line in grid
    ]


def last_that_fit(columns: int, corner: int) -> int:
    """How many columns of tokens fit in a line, at least one."""
    return max(1, min(columns, (LINE - corner - 2) // (CELL + 2)))


def bars_of(token: str, probability: float) -> str:
    """A token, its probability and a bar, as wide for every token."""
    return f"{padded(shown(token, 16), 16)} {probability:.4f} {'█' * round(20 * probability):<20}"


def marked(tokens: Sequence[str], position: int, around: int = 24) -> str:
    """A prompt with one token in ⟦ ⟧, and no more tokens than some on either side of it."""
    first, last = max(0, position - around), min(len(tokens), position + around + 1)
    parts = [f"⟦{token}⟧" if i == position else token for i, token in enumerate(tokens)]
    return ("…" if first else "") + "".join(parts[first:last]) + ("…" if last < len(tokens) else "")


def shaded_map(names: list[str], values: np.ndarray) -> list[str]:
    """Probabilities in characters, a shade for each fifth of the largest, and what the shades are."""
    largest = float(values.max())
    return [
        f"  ░ ▒ ▓ █ from 5, 25, 45, 65 % of the largest, {largest:.4f}",
        *text_map(names, values, largest),
    ]
