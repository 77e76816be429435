"""Files: written whole or not at all, and read back with a clear word when they are something else."""

from __future__ import annotations

import csv
import io
import json
import os
import uuid
import zipfile
import zlib
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError, LoadError

FORMAT = 1  # of saved files; raise it when old code could misread new files


def plain(value: Any) -> Any:
    """The value as JSON can hold it: NumPy numbers, ranges, dataclasses and plans made plain."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, range):
        return [value.start, value.stop, value.step]
    if isinstance(value, (list, tuple, set)):
        return [plain(v) for v in value]
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def named(path: str | os.PathLike) -> Path:
    """The path; InputError when it names no file."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path) or "\0" in os.fspath(path):
        raise InputError(f"a file is named by a text or a Path, not {path!r}")
    return Path(path)


def writable(path: str | os.PathLike) -> Path:
    """The path, `~` resolved, once it is known that a file can be put there; else InputError."""
    path = named(path).expanduser()
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"the folder {path.parent} cannot be written to")
    return path


def write_atomic(path: str | os.PathLike, data: bytes) -> Path:
    """Write the file whole or not at all: an interrupted write leaves what was there before."""
    path = writable(path)
    real = Path(os.path.realpath(path))  # a link stays a link
    part = real.with_name(f".{real.name[:100]}.{uuid.uuid4().hex[:8]}.part")
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, real)
    finally:
        part.unlink(missing_ok=True)
    return path


def write_json(path: str | os.PathLike, value: Any) -> Path:
    """Write a value as indented JSON, whole or not at all."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return write_atomic(path, (text + "\n").encode("utf-8", "backslashreplace"))


def write_csv(path: str | os.PathLike, rows: list[dict[str, Any]]) -> Path:
    """Write rows as CSV under a line of column names, whole or not at all."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return write_atomic(path, text.getvalue().encode("utf-8", "backslashreplace"))


def save_arrays(path: str | os.PathLike, kind: str, header: dict, arrays: dict[str, np.ndarray]) -> Path:
    """Write arrays and a JSON header to one NumPy archive, whole or not at all; its path."""
    path = named(path)
    head = json.dumps({"format": FORMAT, "kind": kind, **header}).encode()
    data = io.BytesIO()
    np.savez_compressed(data, header=np.frombuffer(head, dtype=np.uint8), **arrays)
    return write_atomic(path if path.suffix else path.with_name(path.name + ".npz"), data.getvalue())


def load_arrays(path: str | os.PathLike, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and arrays that `save_arrays` wrote; LoadError when the file is missing or another one."""
    try:
        with np.load(Path(path).expanduser(), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop("header").tobytes())
        found, version = header.pop("kind"), header.pop("format")
    except FileNotFoundError as error:
        raise LoadError(f"there is no file {path}") from error
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        AttributeError,
        TypeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as e:
        raise LoadError(f"{path} was not written by mlxtrace, or is damaged ({type(e).__name__}: {e})") from e
    if found != kind:
        raise LoadError(f"{path} holds a {found}, not a {kind}")
    if version > FORMAT:
        raise LoadError(f"{path} was written by a newer mlxtrace (format {version}); this one reads {FORMAT}")
    return header, arrays
