"""How much memory this process may still take: the least of what the device, the machine and its limits leave."""

from __future__ import annotations

import math
import sys
from numbers import Real
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..errors import InputError

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60  # limits above this are none: cgroup v1 says 2**63 less a page


def allowed_bytes(max_memory: Any) -> int:
    """What a sweep may take beside the weights: the bytes that were named, or a quarter of what is free."""
    if max_memory is None:
        return default_memory()
    if not _is_number(max_memory) or not 0 < max_memory < math.inf:
        raise InputError(f"max_memory is a number of bytes above 0, not {max_memory!r}")
    return int(max_memory)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def default_memory() -> int:
    """A quarter of what is free, in bytes: Python, NumPy and the rest of the machine want some too."""
    return max(1, free() // 4)


def free() -> int:
    """Bytes that can still be taken before the first limit is met; 8 GiB where nothing says."""
    found = [
        left for left in (_device(), _machine(), _address_space(), *_control_groups()) if left is not None
    ]
    return max(0, min(found, default=8 << 30))


def _device() -> int | None:
    """Of what MLX may use of an accelerator (on macOS: Metal's recommended working set), what it does not."""
    info = mx.device_info()
    total = info.get("max_recommended_working_set_size") or info.get("memory_size")
    return int(total) - mx.get_active_memory() if total else None


def _machine() -> int | None:
    """What the kernel says can be had without swapping (Linux)."""
    return _field(PROC / "meminfo", "MemAvailable")


def _address_space() -> int | None:
    """Of RLIMIT_AS (`ulimit -v`) and RLIMIT_DATA, what is not used (Linux; elsewhere they are not enforced)."""
    if not sys.platform.startswith("linux"):
        return None
    import resource

    left = []
    for limit, used in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        soft, _ = resource.getrlimit(limit)
        taken = _field(PROC / "self" / "status", used)
        if soft != resource.RLIM_INFINITY and 0 <= soft < UNLIMITED and taken is not None:
            left.append(soft - taken)
    return min(left, default=None)


def _control_groups() -> list[int]:
    """What is left in each memory-limited control group that holds this process (a container, a job)."""
    left = []
    for line in _read(PROC / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            names, root = ("memory.max", "memory.current", "inactive_file"), CGROUPS
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            root = CGROUPS / "memory"
        else:
            continue
        inside = root / path.lstrip("/")
        for folder in (inside, *inside.parents):  # a group is bound by the groups that hold it
            if folder != root and root not in folder.parents:
                break
            left += _left_in(folder, *names)
    return left


def _left_in(folder: Path, limit: str, usage: str, reclaimable: str) -> list[int]:
    """A group's limit less its use; file pages that can be dropped at once are no use."""
    most, used = _read(folder / limit).strip(), _read(folder / usage).strip()
    if not (most.isdigit() and used.isdigit()) or int(most) >= UNLIMITED:
        return []
    stats = [line.split() for line in _read(folder / "memory.stat").splitlines()]
    dropped = sum(int(words[1]) for words in stats if words[:1] == [reclaimable])
    return [int(most) - max(0, int(used) - dropped)]


def _field(path: Path, name: str) -> int | None:
    """A line `name:  123 kB` of a /proc file, in bytes."""
    for line in _read(path).splitlines():
        key, _, value = line.partition(":")
        words = value.split()
        if key == name and words and words[0].isdigit():
            return int(words[0]) << 10
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
