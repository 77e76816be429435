"""Tables of text and numbers as CSV and as parquet: bytes to rows and back, every text exactly as it is."""

from __future__ import annotations

import csv
import importlib
import io
import json
import sys
from collections.abc import Sequence
from typing import Any

from ..errors import LoadError

INSTALL = "parquet needs pyarrow: pip install pyarrow"
Rows = list[dict[str, Any]]


def csv_rows(data: bytes, source: str) -> Rows:
    """The rows of a CSV file under its line of column names; empty cells are left out. LoadError when it is none."""
    try:
        text = io.StringIO(data.decode("utf-8-sig"), newline="")
        lines = _lines(text)
    except (ValueError, csv.Error) as error:
        raise LoadError(f"{source} is not CSV: {error}") from error
    if not lines:
        return []
    names, rows = lines[0], []
    if len(set(names)) < len(names) or "" in names:
        raise LoadError(f"{source}: each column has a name of its own, not {', '.join(map(repr, names))}")
    for number, cells in enumerate(lines[1:], 1):
        if len(cells) != len(names):
            raise LoadError(f"{source}: row {number} has {len(cells)} cells, the line of names {len(names)}")
        rows.append({name: cell for name, cell in zip(names, cells, strict=True) if cell != ""})
    return rows


def _lines(text: io.StringIO) -> list[list[str]]:
    """The cells of each line that has any; of any length, which csv limits unless it is told otherwise."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        return [cells for cells in csv.reader(text, strict=True) if cells]
    finally:
        csv.field_size_limit(before)


def csv_bytes(rows: Rows, names: Sequence[str]) -> bytes:
    """Rows as CSV; lists as JSON, what is missing as an empty cell. UnicodeEncodeError for half a character."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_MINIMAL, lineterminator="\r\n")  # so that it quotes both
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in names])
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def parquet_rows(data: bytes, source: str) -> Rows:
    """The rows of a parquet file, nulls left out; LoadError when it is none, or pyarrow is not installed."""
    parquet = _parquet()
    try:
        rows = parquet.read_table(io.BytesIO(data)).to_pylist()
    except Exception as error:  # whatever damage makes Arrow raise
        raise LoadError(f"{source} is not parquet: {' '.join(str(error).split())[:200]}") from error
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def parquet_bytes(rows: Rows, names: Sequence[str]) -> bytes:
    """Rows as parquet, a column's type that of its values; LoadError for what it does not hold, or without pyarrow."""
    parquet = _parquet()
    arrow = importlib.import_module("pyarrow")
    data = io.BytesIO()
    try:
        columns = {name: arrow.array([row.get(name) for row in rows]) for name in names}
        parquet.write_table(arrow.table(columns), data)
    except (ValueError, OverflowError, TypeError) as error:  # half a character, a number of more than 64 bits
        raise LoadError(" ".join(str(error).split())[:200]) from error
    return data.getvalue()


def _parquet() -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise LoadError(INSTALL) from error
