"""Files: written whole or not at all, and read back with a clear word when they are something else."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import os
import platform
import re
import stat
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO

import mlx.core as mx
import numpy as np

from .errors import InputError, LoadError, MlxtraceError

FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # what a spreadsheet may take for the start of one
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
    if isinstance(value, (np.ndarray, np.generic, mx.array)):
        return plain(value.tolist())
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def named(path: str | os.PathLike) -> Path:
    """The path; InputError when it names no file."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path) or "\0" in os.fspath(path):
        raise InputError(f"a file is named by a text or a Path, not {path!r}")
    return Path(path)


def regular(path: str | os.PathLike) -> Path:
    """The path, `~` resolved, of a file to read; LoadError when it is a folder, or a pipe that would never answer."""
    path = named(path).expanduser()
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise LoadError(f"{path} is no regular file")
    return path


def writable(path: str | os.PathLike) -> Path:
    """The path, `~` resolved, once it is known that a file can be put there; else InputError."""
    path = named(path).expanduser()
    try:
        if not _is_special(path):
            _check_place(path, Path(os.path.realpath(path)))
        elif _descriptor(path) is None and not os.access(path, os.W_OK):
            raise InputError(f"{path} cannot be written to")
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)[:200]} cannot be written: {_reason(error)}") from error
    return path


def writable_folder(path: str | os.PathLike) -> Path:
    """The path, `~` resolved, once it is known that a folder there can be written to, or made; else InputError."""
    path = named(path).expanduser()
    try:
        if os.path.lexists(path) and not path.is_dir():
            raise InputError(f"{path} is a file; name a folder")
        there = next(p for p in (path, *path.absolute().parents) if os.path.lexists(p))
        if not there.is_dir():
            raise InputError(f"the folder {path} cannot be made: {there} is a file")
        if not os.access(there, os.W_OK | os.X_OK):
            raise InputError(f"the folder {there} cannot be written to")
        longest = os.pathconf(there, "PC_NAME_MAX")
        if any(len(os.fsencode(part)) > longest for part in path.parts):
            raise InputError(f"{str(path)[:200]}: a folder's name may be no longer than {longest} bytes")
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"the folder {str(path)[:200]} cannot be made: {_reason(error)}") from error
    return path


def _check_place(path: Path, real: Path) -> None:
    """InputError unless a regular file can be made, or replaced, at `real`, where the links of `path` end."""
    if os.path.isdir(real):
        raise InputError(f"{path} is a folder; name a file in it")
    if os.path.islink(real) and os.path.realpath(path) == str(real):
        raise InputError(f"{path} is a link that leads nowhere but to itself")
    if not os.path.isdir(real.parent):
        raise InputError(f"the folder {real.parent} does not exist; create it first")
    longest = os.pathconf(real.parent, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    if len(os.fsencode(real.name)) > longest:
        raise InputError(
            f"the name {real.name[:40]}... is longer than the {longest} bytes that a file's may be"
        )
    if not os.access(real.parent, os.W_OK | os.X_OK):
        raise InputError(f"the folder {real.parent} cannot be written to")
    if os.path.lexists(real) and not os.access(real, os.W_OK):
        raise InputError(f"{path} is write-protected")


def _is_special(path: Path) -> bool:
    """Whether it is there and no regular file: a terminal, a pipe, /dev/null, or a descriptor such as /dev/stdout."""
    if _descriptor(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _descriptor(path: Path) -> int | None:
    """The descriptor of this process that a path such as /dev/stdout, or a link to it, stands for."""
    text, streams = os.path.abspath(path), ("/dev/stdin", "/dev/stdout", "/dev/stderr")
    for _ in range(40):
        if text in streams:
            return streams.index(text)
        if found := re.fullmatch(rf"/(?:dev|proc/self|proc/{os.getpid()})/fd/(\d+)", text):
            return int(found[1])
        if not os.path.islink(text):
            return None
        text = os.path.abspath(os.path.join(os.path.dirname(text), os.readlink(text)))
    return None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


@contextmanager
def writing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` when the block ends without an error.

    An interrupted write leaves what was there before. A link stays a link, the file keeps its mode, and what is no
    regular file (/dev/stdout, a pipe) is written through to.
    """
    path = writable(path)
    if _is_special(path):
        data = io.BytesIO()
        yield data
        _write_through(path, data.getvalue())
        return
    real = Path(os.path.realpath(path))
    part = _part_beside(real)
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _keep_mode(real, part)
        os.replace(part, real)
    finally:
        part.unlink(missing_ok=True)


def _write_through(path: Path, data: bytes) -> None:
    number = _descriptor(path)
    if number is None:
        with open(path, "wb", buffering=0) as file:
            _write_all(file.fileno(), data)
        return
    for stream in (sys.stdout, sys.stderr):  # what was printed before comes first
        if stream is not None:
            stream.flush()
    _write_all(number, data)


def _write_all(number: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(number, view) :]


def _keep_mode(real: Path, part: Path) -> None:
    try:
        before = os.lstat(real)
    except FileNotFoundError:
        return
    if stat.S_ISREG(before.st_mode):
        os.chmod(part, stat.S_IMODE(before.st_mode))


def write_atomic(path: str | os.PathLike, data: bytes) -> Path:
    """Write the file whole or not at all, as `writing` does; its path."""
    with writing(path) as file:
        file.write(data)
    return named(path).expanduser()


def create(path: Path, data: bytes) -> bool:
    """Write a file whole unless there is one: False when there is, however many try at once."""
    part = _part_beside(path)
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links: a reader may see it half-written, and waits
            try:
                with open(path, "xb") as file:
                    file.write(data)
            except FileExistsError:
                return False
        return True
    finally:
        part.unlink(missing_ok=True)


STALE = 3600.0  # seconds after which a half-written file of another machine belongs to nobody


def remove_litter(folder: Path) -> None:
    """Remove half-written files of processes that died; those of living ones stay, and what is not ours."""
    for part in folder.glob(".*.part"):
        found = re.fullmatch(r"\.mlxtrace-(\w{8})-(\d+)-\w{8}\.part|\..*\.[0-9a-f]{8}\.part", part.name)
        try:
            if found is None or not stat.S_ISREG(part.lstat().st_mode):
                continue
            here = found[1] == _place()
            if not _alive(int(found[2])) if here else time.time() - part.lstat().st_mtime > STALE:
                part.unlink(missing_ok=True)
        except OSError:  # it is gone already, or not ours to remove
            continue


def _part_beside(path: Path) -> Path:
    return path.with_name(f".mlxtrace-{_place()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.part")


@functools.cache
def _place() -> str:
    """Where a process number means something: the machine, and on Linux the container."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]


def _alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def write_json(path: str | os.PathLike, value: Any) -> Path:
    """Write a value as indented JSON, whole or not at all."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return write_atomic(path, (text + "\n").encode("utf-8", "backslashreplace"))


def write_csv(path: str | os.PathLike, rows: list[dict[str, Any]]) -> Path:
    """Write rows as CSV under a line of column names, whole or not at all.

    A text that a spreadsheet would take for a formula (`=`, `+`, `-`, `@`, tab or line break first) gets a `'` before
    it; numbers stay numbers.
    """
    columns = list(rows[0]) if rows else []
    lines = [_line(columns), *(_line([row[name] for name in columns]) for row in rows)]
    return write_atomic(path, "".join(lines).encode("utf-8", "backslashreplace"))


def _line(cells: list[Any]) -> str:
    """One line of CSV; csv quotes a carriage return only if lines end in one, so it is told that they do."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow([_cell(cell) for cell in cells])
    return text.getvalue()[:-2] + "\n"


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in FORMULA else value


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
        with np.load(regular(path), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop("header").tobytes())
        found, version = header.pop("kind"), int(header.pop("format"))
    except FileNotFoundError as error:
        raise LoadError(f"there is no file {path}") from error
    except MlxtraceError as error:
        raise LoadError(str(error)) from error
    except Exception as e:  # whatever damage makes zip, NumPy and JSON raise, a RecursionError included
        raise LoadError(f"{path} was not written by mlxtrace, or is damaged ({type(e).__name__}: {e})") from e
    if found != kind:
        raise LoadError(f"{path} holds a {found}, not a {kind}")
    if version > FORMAT:
        raise LoadError(f"{path} was written by a newer mlxtrace (format {version}); this one reads {FORMAT}")
    return header, arrays
