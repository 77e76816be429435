"""The entries of pairs in a file, by its ending: JSON, JSONL, CSV, parquet; read, and written to bytes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import LoadError
from . import columns
from .json_files import read_json

SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")
WRAPPERS = ("pairs", "prompts")  # what an object calls its list of pairs
TABLES = {
    ".csv": (columns.csv_rows, columns.csv_bytes),
    ".parquet": (columns.parquet_rows, columns.parquet_bytes),
}


def read_entries(path: Path) -> list[Any]:
    """The entries of a file, as they are; LoadError when it is not what its ending says."""
    suffix = path.suffix.lower()
    if suffix in TABLES:
        try:
            return TABLES[suffix][0](path.read_bytes(), str(path))
        except OSError as error:
            raise LoadError(f"{path} cannot be read: {error}") from error
    whole = read_json(path)
    if not isinstance(whole, dict):
        return whole
    wrapped = [name for name in WRAPPERS if isinstance(whole.get(name), list)]
    if not wrapped:
        return [whole]
    rest = ", ".join(repr(name) for name in whole if name != wrapped[0])
    if rest:
        warnings.warn(f"{path}: only its {wrapped[0]!r} are read, not {rest}", stacklevel=3)
    return whole[wrapped[0]]


def is_table(suffix: str) -> bool:
    """Whether a file of this ending holds rows of columns, and not entries as they are."""
    return suffix in TABLES


def encoded(entries: list[dict[str, Any]], suffix: str, names: Sequence[str]) -> bytes:
    """Entries as the bytes of a file. names: the columns that a table may have, in their order.

    LoadError without pyarrow, UnicodeError for what no text file holds.
    """
    if is_table(suffix):
        used = [name for name in names if any(name in entry for entry in entries)]
        return TABLES[suffix][1](entries, used)
    if suffix == ".json":
        text = json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
    else:
        text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    return text.encode("utf-8", "backslashreplace")  # half a character as JSON writes it, \udc80


def decoded(data: bytes, suffix: str) -> list[Any]:
    """The entries that these bytes would be read as."""
    if is_table(suffix):
        return TABLES[suffix][0](data, "what was written")
    if suffix == ".json":
        return json.loads(data)
    return [json.loads(line) for line in data.decode().split("\n") if line]
