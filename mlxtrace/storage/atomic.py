"""Files that are written whole or not at all, and made by one of several that try at once."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .litter import part_beside
from .places import descriptor, is_special, writable


@contextmanager
def writing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` when the block ends without an error.

    An interrupted write leaves what was there before. A link stays a link, the file keeps its mode, and what is no
    regular file (/dev/stdout, a pipe) is written through to. InputError when nothing can be written there.
    """
    path = writable(path)
    if is_special(path):
        data = io.BytesIO()
        yield data
        _write_through(path, data.getvalue())
        return
    real = Path(os.path.realpath(path))
    part = part_beside(real)
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
    number = descriptor(path)
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
    path = writable(path)
    with writing(path) as file:
        file.write(data)
    return path


def create(path: Path, data: bytes) -> bool:
    """Write a file whole unless there is one: False when there is, however many try at once."""
    part = part_beside(path)
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links: a reader may see it half-written
            try:
                with open(path, "xb") as file:
                    file.write(data)
            except FileExistsError:
                return False
        return True
    finally:
        part.unlink(missing_ok=True)
