"""Half-written files: how they are named, and which of them a process that died has left."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import stat
import time
import uuid
from pathlib import Path

STALE = 3600.0  # seconds after which a half-written file of another machine is taken for left behind
OURS = re.compile(
    r"\.mlxtrace-(\w{8})-(\d+)-\w{8}\.part|\..*\.[0-9a-f]{8}\.part"
)  # and earlier versions' names


def part_beside(path: Path) -> Path:
    """The name of the file that is written before it takes the place of `path`."""
    return path.with_name(f".mlxtrace-{_place()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.part")


def remove_litter(folder: Path) -> None:
    """Remove half-written files of processes that died; those of living ones stay, and what is not ours."""
    for part in folder.glob(".*.part"):
        found = OURS.fullmatch(part.name)
        try:
            if (
                found is not None
                and stat.S_ISREG(part.lstat().st_mode)
                and _is_dead(part, found[1], found[2])
            ):
                part.unlink(missing_ok=True)
        except OSError:  # it is gone already, or not ours to remove
            continue


def _is_dead(part: Path, place: str | None, number: str | None) -> bool:
    """Whether the process that wrote a part died; of another machine's, whether the part is old."""
    if place == _place() and number is not None:
        return not _alive(int(number))
    return time.time() - part.lstat().st_mtime > STALE


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
