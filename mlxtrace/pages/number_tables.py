"""Tables of numbers, as a page shows them: a caption, a heading for each column, numbers to the right.

table(rows, caption="The strongest cells")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .elements import Html, el

WORDS = {
    "indirect_effect": "indirect effect",
    "n": "pairs",
    "low": "from",
    "high": "to",
}


def table(rows: Sequence[Mapping[str, Any]], caption: str, units: Mapping[str, str] | None = None) -> Html:
    """A table of a row for each mapping, whose columns are the keys that any of them has.

    Args:
        rows: `{column: value}`; None and what is missing is an empty cell.
        caption: what it shows.
        units: by column, what its heading says behind the name.

    Returns:
        HTML.

    Example:
        >>> from mlxtrace.pages.number_tables import table
        >>> table([{"layer": 3, "effect": 0.12345}], "Effects").count("<td")
        2
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    numeric = {name for name in names if all(_is_number(row.get(name)) for row in rows)}
    said = {name: WORDS.get(name, name.replace("_", " ")) for name in names}
    for name, unit in (units or {}).items():
        said[name] = f"{said.get(name, name)}, {unit}"
    head = [el("th", said[name], scope="col", class_=_class(name, numeric)) for name in names]
    body = [_row(row, names, numeric) for row in rows]
    parts = el("caption", caption), el("thead", el("tr", *head)), el("tbody", *body)
    return el("div", el("table", *parts), class_="scroll")


def folded(summary: str, *parts: Any) -> Html:
    """What is shown when it is asked for."""
    return el("details", el("summary", summary), *parts)


def number(value: Any) -> str:
    """A number in as many digits as are read: 97.3, 0.0312, 1.2e-05; texts as they are."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    if isinstance(value, int):
        return str(value)
    found = f"{value:z.1f}" if abs(value) >= 10 else f"{value:.3g}"
    return "0" if float(found) == 0 else found.replace("-", "−")


def _row(row: Mapping[str, Any], names: Sequence[str], numeric: set[str]) -> Html:
    cells = []
    for name in names:
        value = row.get(name)
        shown = el("code", value) if name in ("token", "top_1") and value is not None else number(value)
        cells.append(el("td", shown, class_=_class(name, numeric)))
    return el("tr", *cells)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _class(name: str, numeric: set[str]) -> str | None:
    return "number" if name in numeric else None
