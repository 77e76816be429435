"""Results as HTML for a notebook: escaped, in the notebook's own colours, dark or light, and small at any size.

document("CausalTrace", ["clean: ..."], notes, [heat("position", names, layers, scores, texts, tint, whole=total)])
"""

from __future__ import annotations

import html
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..plotting.colours import PALETTES
from ..plotting.colours import tint as tint_of
from .text_maps import ALL, cut, elided, matter, of_rows, printable

CELLS = 3000  # of all maps of a result: under 200 KB
NAME = 40  # characters of a name
LEFT, WRAPPED = ' style="text-align:left"', ' style="white-space:normal"'
TINTS = {family: tint_of(family) for family in PALETTES}  # as in the figures
BELOW = {tint_of(family): tint_of(family, below=True) for family in PALETTES}  # of what is below zero


def safe(text: Any, most: int = 400) -> str:
    """A text that is shown as it is, whatever it holds; the middle of a long one left out."""
    return html.escape(printable(elided(str(text).replace("\n", "\\n"), most)))


def document(title: str, lines: Iterable[str], notes: Iterable[str], parts: Iterable[str]) -> str:
    """A result: its title, what must be known to read it, notes, and tables."""
    known = [f"<b>{safe(title)}</b>", *map(safe, lines), *(safe(f"note: {note}", 1000) for note in notes)]
    tables = f'<div style="white-space:nowrap">{"".join(parts)}</div>'
    return f'<div style="overflow-x:auto">{"<br>".join(known)}{tables}</div>'


def strongest(tables: Sequence[np.ndarray], most: int) -> tuple[list[int], str]:
    """Which of many tables are shown, and what is said of it: those with the largest value of either sign."""
    if len(tables) <= most:
        return list(range(len(tables))), ""
    size = [float(np.nan_to_num(np.abs(table)).max(initial=0.0)) for table in tables]
    best = sorted(sorted(range(len(tables)), key=lambda i: -size[i])[:most])
    return best, f"the {most} strongest of {len(tables)} maps; {ALL}"


def heat(
    corner: str,
    names: Sequence[Any],
    columns: Sequence[Any],
    numbers: np.ndarray,
    cell: Callable[[int, int], str],
    tints: str | Sequence[str],
    *,
    whole: float = 1.0,
    white: float = 0.0,
    row: str = "position",
    labels: Sequence[int | str] | None = None,
    keep: Collection[int | str] = (),
    cells: int = CELLS,
) -> str:
    """A table of shaded cells `[rows, columns]`, of the rows that matter.

    Args:
        corner: what stands above the names.
        names, columns: of rows and columns.
        numbers: what the colours are of; NaN is no value.
        cell: the text of a cell, by its row and column.
        tints: the colour, as "red,green,blue", of all columns or of each.
        whole: what is as far from `white` as this is in full colour.
        white: what has no colour.
        row: what rows are called. labels, keep: as `matter` takes them; no labels: all rows are shown.
        cells: how many cells there may be.

    Returns:
        A `<table>`, and a line with what is left out.
    """
    shares = (numbers - white) / (whole or 1.0)
    rows = matter(
        numbers,
        "all" if labels is None else "auto",
        white=white,
        low=white,
        high=white + (abs(whole) or 1.0),
        keep=keep,
        most=max(4, cells // max(1, len(columns))),
        labels=labels,
    )
    each = [tints] * len(columns) if isinstance(tints, str) else tints
    heads = "".join(_head(c, tint) for c, tint in zip(columns, each, strict=True))
    body = [f"<tr><th>{safe(corner)}</th>{heads}</tr>"]
    for i in rows.shown:
        line = "".join(_cell(cell(i, j), shares[i, j], each[j]) for j in range(len(columns)))
        body.append(f"<tr><th{LEFT}>{safe(cut(str(names[i]), NAME))}</th>{line}</tr>")
    said = [of_rows(line, row) for line in rows.said]
    left = f"<i{WRAPPED}>{'; '.join([*said, ALL])}</i>" if said else ""
    return f"<table>{''.join(body)}</table>{left}"


def decimals(values: np.ndarray, digits: int = 3) -> Callable[[int, int], str]:
    """The text of a cell by its row and column: its number."""
    return lambda i, j: f"{values[i, j]:z.{digits}f}"


def _head(name: Any, tint: str) -> str:
    return f'<th style="border-bottom:2px solid rgb({tint})">{safe(name, NAME)}</th>'


def _cell(text: str, share: float, tint: str) -> str:
    if np.isnan(share):
        return "<td></td>"
    if abs(share) < 0.02:
        return f"<td>{html.escape(text)}</td>"
    colour = "".join(
        f"{int(part):02x}" for part in (tint if share > 0 else BELOW.get(tint, "128,128,128")).split(",")
    )
    colour = f"#{colour}{round(191 * min(abs(share), 1)):02x}"
    return f'<td style="background:{colour}">{html.escape(text)}</td>'


def listed(rows: Sequence[Mapping[str, Any]], total: int) -> str:
    """A table of a few rows as `to_rows` has them, numbers in four digits, and how many there are."""
    heads = list(dict.fromkeys(name for row in rows for name in row))
    body = [f"<tr>{''.join(f'<th>{safe(name, NAME)}</th>' for name in heads)}</tr>"]
    for row in rows:
        body.append(
            "<tr>" + "".join(f"<td>{safe(_number(row.get(name)), NAME)}</td>" for name in heads) + "</tr>"
        )
    left = f"<i>the {len(rows)} strongest of {total:,}; {ALL}</i>" if len(rows) < total else ""
    return f"<table>{''.join(body)}</table>{left}"


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:z.4g}" if isinstance(value, float) else str(value)
