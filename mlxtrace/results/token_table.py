"""Tables of tokens for a terminal: cells as wide as they look, also in Chinese, and cut where there is no room."""

from __future__ import annotations

from collections.abc import Sequence

from .printing import (
    ALL,
    SHADES,
    cut,
    document,
    heat,
    listed,
    padded,
    page,
    probability,
    quoted,
    shaded,
    short,
    width,
)

__all__ = [
    "ALL",
    "SHADES",
    "cut",
    "document",
    "heat",
    "last_that_fit",
    "listed",
    "padded",
    "page",
    "probability",
    "quoted",
    "shaded",
    "short",
    "shown",
    "token_table",
    "width",
]
LINE, CELL = 100, 12  # characters of a line, and of a cell at most


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
    return f"{padded(shown(token, 16), 16)} {probability:z.4f} {'█' * round(20 * probability):<20}"


def marked(tokens: Sequence[str], position: int, around: int = 24) -> str:
    """A prompt with one token in ⟦ ⟧, and no more tokens than some on either side of it."""
    first, last = max(0, position - around), min(len(tokens), position + around + 1)
    parts = [f"⟦{token}⟧" if i == position else token for i, token in enumerate(tokens)]
    return ("…" if first else "") + "".join(parts[first:last]) + ("…" if last < len(tokens) else "")
