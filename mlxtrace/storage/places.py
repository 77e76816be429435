"""Where files may go, and where they can be read: looked at before any work is done.

Writing where nothing can be written is an InputError; reading what is not there, or is no file, a LoadError.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError, LoadError

# What says what is in a file; any other suffix is a part of its name, as in "run_0.5".
FORMATS = (
    *(
        ".npz",
        ".npy",
        ".safetensors",
        ".pt",
        ".pth",
        ".bin",
        ".pkl",
        ".pickle",
        ".gguf",
        ".h5",
        ".hdf5",
        ".zip",
    ),
    *(
        ".json",
        ".jsonl",
        ".csv",
        ".tsv",
        ".txt",
        ".md",
        ".html",
        ".xlsx",
        ".parquet",
        ".yaml",
        ".yml",
        ".dot",
        ".gv",
    ),
    *(".png", ".pdf", ".svg", ".jpg", ".jpeg"),
)


def check_format(path: str | os.PathLike, *own: str, cure: str = "") -> None:
    """InputError when the suffix of a path says that another format is in it than is written there.

    own: the format's suffixes, the usual one first. cure: what writes other formats.
    """
    path = named(path)
    suffix = path.suffix.lower()
    if suffix in FORMATS and suffix not in own:
        raise InputError(
            f"{path} would hold no {suffix[1:]} but {own[0][1:]}: name it {path.stem}{own[0]}{cure}"
        )


def named(path: str | os.PathLike) -> Path:
    """The path, `~` resolved; InputError when it names no file."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path) or "\0" in os.fspath(path):
        raise InputError(f"a file is named by a text or a Path, not {path!r}")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # `~` of a user that this machine does not have
        raise InputError(f"{path}: {error}") from error


def readable(path: str | os.PathLike) -> Path:
    """The path of a file to read; LoadError when there is none, or a folder, or a pipe that would never answer."""
    try:
        path = named(path)
        mode = os.stat(path).st_mode
    except InputError as error:
        raise LoadError(str(error)) from error
    except FileNotFoundError as error:
        raise LoadError(f"there is no file {path}") from error
    except (OSError, ValueError) as error:
        raise LoadError(f"{str(path)[:200]} cannot be read: {_reason(error)}") from error
    if stat.S_ISDIR(mode):
        raise LoadError(f"{path} is a folder, not a file")
    if not stat.S_ISREG(mode):
        raise LoadError(f"{path} is no regular file")
    return path


def readable_folder(path: str | os.PathLike) -> Path:
    """The path of a folder to read; LoadError when there is none."""
    try:
        path = named(path)
    except InputError as error:
        raise LoadError(str(error)) from error
    if not path.is_dir():
        raise LoadError(
            f"{path} is a file, not a folder" if os.path.exists(path) else f"there is no folder {path}"
        )
    return path


def writable(path: str | os.PathLike) -> Path:
    """The path, `~` resolved, once it is known that a file can be put there; else InputError."""
    path = named(path)
    with _refusals(f"{str(path)[:200]} cannot be written"):
        if not is_special(path):
            _check_place(path, Path(os.path.realpath(path)))
        elif descriptor(path) is None and not os.access(path, os.W_OK):
            raise InputError(f"{path} cannot be written to")
    return path


def writable_folder(path: str | os.PathLike) -> Path:
    """The path, `~` resolved, once it is known that a folder there can be written to, or made; else InputError."""
    path = named(path)
    with _refusals(f"the folder {str(path)[:200]} cannot be made"):
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
    return path


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """What the system refuses in the block, as an InputError that begins with `what`."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{what}: {_reason(error)}") from error


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


def is_special(path: Path) -> bool:
    """Whether it is there and no regular file: a terminal, a pipe, /dev/null, or a descriptor such as /dev/stdout."""
    if descriptor(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def descriptor(path: Path) -> int | None:
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
