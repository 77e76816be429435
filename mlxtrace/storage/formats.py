"""What a file holds: values as JSON, rows as CSV, arrays with a header as a NumPy archive."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import LoadError
from .atomic import write_atomic
from .places import check_format, named, readable, writable

FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # what a spreadsheet may take for the start of one
OF_RESULTS = " (.save writes .npz, .to_json, .to_csv and .plot what they say)"
FORMAT = 1  # of saved files; raise it when old code could misread new files


def plain(value: Any) -> Any:
    """The value as JSON can hold it: NumPy numbers, ranges, dataclasses and plans made plain."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, range):
        return [value.start, value.stop, value.step]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if (tolist := getattr(value, "tolist", None)) is not None:  # of NumPy or of MLX
        return plain(tolist())
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def write_json(path: str | os.PathLike, value: Any) -> Path:
    """Write a value as indented JSON, whole or not at all; its path."""
    check_format(path, ".json", ".txt", cure=OF_RESULTS)
    path = writable(path)
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return write_atomic(path, (text + "\n").encode("utf-8", "backslashreplace"))


def read_text(path: str | os.PathLike) -> str:
    """The text in a file, a byte-order mark left out; LoadError when there is none or it is not UTF-8."""
    path = readable(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise LoadError(f"{path} cannot be read: {error}") from error


def read_object(path: str | os.PathLike) -> dict[str, Any]:
    """The JSON object in a file; LoadError when there is none."""
    try:
        value = json.loads(read_text(path))
    except LoadError:
        raise
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise LoadError(f"{path} holds no JSON object")
    return value


def write_csv(path: str | os.PathLike, rows: list[dict[str, Any]]) -> Path:
    """Write rows as CSV under a line of column names, whole or not at all.

    A text that a spreadsheet would take for a formula (`=`, `+`, `-`, `@`, tab or line break first) gets a `'` before
    it; numbers stay numbers.
    """
    check_format(path, ".csv", ".txt", cure=OF_RESULTS)
    columns = list(rows[0]) if rows else []
    lines = [_line(columns), *(_line([row[name] for name in columns]) for row in rows)]
    return write_atomic(path, "".join(lines).encode("utf-8", "backslashreplace"))


def _line(cells: list[Any]) -> str:
    """One line of CSV; csv quotes a carriage return only where lines end in one, so they do for a moment."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow([_cell(cell) for cell in cells])
    return text.getvalue()[:-2] + "\n"


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in FORMULA else value


def save_arrays(path: str | os.PathLike, kind: str, header: dict, arrays: dict[str, np.ndarray]) -> Path:
    """Write arrays and a JSON header to one NumPy archive (`.npz` if the path has no suffix); its path."""
    check_format(path, ".npz", cure=OF_RESULTS)
    path = named(path)
    path = writable(path if path.suffix or not path.name else path.with_name(path.name + ".npz"))
    head = json.dumps({"format": FORMAT, "kind": kind, **header}).encode()
    members: dict[str, Any] = {"header": np.frombuffer(head, dtype=np.uint8), **arrays}
    data = io.BytesIO()
    np.savez_compressed(data, **members)
    return write_atomic(path, data.getvalue())


def kind_of(path: str | os.PathLike) -> str:
    """What `save_arrays` wrote, by its kind; LoadError when the file is missing or another one."""
    path = readable(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            return str(json.loads(file["header"].tobytes())["kind"])
    except Exception as e:  # as below
        raise _damaged(path, e) from e


def _damaged(path: Path, error: Exception) -> LoadError:
    return LoadError(f"{path} was not written by mlxtrace, or is damaged ({type(error).__name__}: {error})")


def load_arrays(path: str | os.PathLike, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and arrays that `save_arrays` wrote; LoadError when the file is missing or another one."""
    path = readable(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop("header").tobytes())
        found, version = header.pop("kind"), int(header.pop("format"))
    except Exception as e:  # whatever damage makes zip, NumPy and JSON raise, a RecursionError included
        raise _damaged(path, e) from e
    if found != kind:
        raise LoadError(f"{path} holds a {found}, not a {kind}")
    if version > FORMAT:
        raise LoadError(f"{path} was written by a newer mlxtrace (format {version}); this one reads {FORMAT}")
    return header, arrays
