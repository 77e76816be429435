"""Where a set of pairs comes from: a local file, or the files of a hub data set."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import LoadError, closest
from ..storage import readable
from .hub import shards


def found(path_or_name: Any, suffixes: Sequence[str], tasks: Iterable[str]) -> tuple[list[Path], str]:
    """The files of a set, and what they are called in errors; LoadError when there is none.

    suffixes: of files of pairs. tasks: the names that are no files, for errors.
    """
    if not isinstance(path_or_name, str | os.PathLike):
        raise LoadError(
            f"pairs come from a task, a file or a data set, named by a text, not {path_or_name!r}"
        )
    name = os.fspath(path_or_name)
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        raise LoadError(f"{path} is a folder: name a file of pairs ({', '.join(suffixes)})")
    is_file = path.suffix.lower() in suffixes and ":" not in name
    local = is_file or name.startswith((".", "/", "~")) or name.split(":")[0].count("/") != 1
    if not (os.path.lexists(path) or isinstance(path_or_name, os.PathLike) or local):
        return shards(name, suffixes), f"the data set {name}"
    if not os.path.lexists(path):
        raise LoadError(
            f"there is no file {name!r}; a hub data set has the form owner/name, and the tasks are "
            f"{', '.join(tasks)} ({closest(name, tasks, 1)})"
        )
    if path.suffix.lower() not in suffixes:
        raise LoadError(f"{path}: a file of pairs ends in {', '.join(suffixes)}")
    return [readable(path)], str(path)
