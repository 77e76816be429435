"""Maps in characters for a terminal of ordinary size: the rows that matter, and columns that fit, with both said.

layers 0-79 across; ░ ▒ ▓ █ from 5, 25, 45, 65 %
    ⋮ positions 0-411 are 0
412 Eiffel*  ···░▒▓█▓▒·
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np

from ..plotting.labels import short, text_map
from ..plotting.rows import Rows, matter
from ..terminal import cut, elided, printable, width

__all__ = [
    "ALL",
    "MOST",
    "SHADES",
    "across",
    "cut",
    "elided",
    "matter",
    "most_rows",
    "of_rows",
    "printable",
    "shaded",
    "thinned",
]
LINE, NAME = 108, 32  # columns of a line, and of a row's name at most
MOST = 40  # rows that are all shown, and that a longer map is cut to
LAYERS = 128  # the same where rows are layers, of which a model has no more
MARKED = 6  # gaps that are marked where they are; more are said below the map
SHADES = "░ ▒ ▓ █ from 5, 25, 45, 65 %"  # what `text_map` draws
ALL = "to_rows() has all"


def across(name: str, labels: Sequence) -> str:
    """What stands across a map: "layers 0-11 across"."""
    return f"{name}s {cut(short(list(labels)), 40)} across"


def most_rows(row: str, maps: int) -> int:
    """How many rows one of several maps may have."""
    if maps > 1:
        return MOST // 2
    return LAYERS if row == "layer" else MOST


def of_rows(said: str, row: str) -> str:
    """What is said of rows that are cut, with the name of what they are: "positions 0-411 are 0"."""
    return re.sub(r"\brow(s?)\b", rf"{row}\1", said)


def shaded(
    heading: str,
    names: Sequence[str],
    values: np.ndarray,
    whole: float,
    unsure: np.ndarray | None = None,
    *,
    row: str = "position",
    column: str = "layer",
    labels: Sequence[int | str] | None = None,
    keep: Collection[int | str] = (),
    most: int = MOST,
) -> list[str]:
    """A heading and a map `[rows, columns]` under it, as `text_map` draws it, with what is left out.

    Args:
        heading: what is shown, and what the shades are.
        names: of the rows, as they are printed.
        values: what is drawn; NaN is no value.
        whole: what the shades are shares of.
        unsure: which cells get a `?`.
        row, column: what rows and columns are called.
        labels: the numbers of the rows, which may be cut then; None: all rows are shown.
        keep: labels that are shown in any case.
        most: rows that are shown at most.

    Returns:
        Lines.

    Example:
        >>> import numpy as np
        >>> from mlxtrace.results.text_maps import shaded
        >>> values = np.zeros((100, 3))
        >>> values[98, 1] = 60
        >>> print("\\n".join(shaded("  heading", [str(i) for i in range(100)], values, 100, labels=range(100))))
          heading
          ⋮ positions 0-97 are 0
          98  ·▓·
          ⋮ position 99 is 0
          (1 of 100 positions shown; to_rows() has all)
    """
    which = "all" if labels is None else "auto"
    rows = matter(values, which, low=0.0, high=abs(whole) or 1.0, keep=keep, most=most, labels=labels)
    shown = [cut(names[i], NAME) for i in rows.shown]
    room = LINE - 4 - max(map(width, shown))
    thin, at, step = thinned(values[rows.shown], room)
    marks = None if unsure is None else np.take_along_axis(unsure[rows.shown], at, 1)
    lines = text_map(shown, thin, whole, marks)
    fewer = f"; each shade is the strongest of {step} {column}s" if step > 1 else ""
    return [f"{heading}{fewer}", *_with_cuts(lines, rows, len(names), row)]


def _with_cuts(lines: list[str], rows: Rows, n: int, row: str) -> list[str]:
    """The lines with what is left out between them, or below them where that is much."""
    if not rows.cuts:
        return lines
    total = f"{len(rows.shown)} of {n} {row}s shown; {ALL}"
    if len(rows.cuts) > MARKED:
        return [*lines, *(f"  ({of_rows(said, row)})" for said in rows.said), f"  ({total})"]
    found = list(lines)
    for gap in reversed(rows.cuts):
        found.insert(gap.at, f"  ⋮ {of_rows(gap.words, row)}")
    return [*found, f"  ({total})"]


def thinned(values: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray, int]:
    """A map of so many columns at most: of every few the value furthest from 0, where it stood, and how many."""
    n = values.shape[1]
    step = -(-n // max(1, room))
    starts = np.arange(0, n, step)
    at = np.stack(
        [s + np.nan_to_num(np.abs(values[:, s : s + step])).argmax(1) for s in starts], axis=1
    ).reshape(len(values), len(starts))
    return np.take_along_axis(values, at, 1), at, step
