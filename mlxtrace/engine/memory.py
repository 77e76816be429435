"""How much memory this process may still take: the least of what the device, the machine and its limits leave."""

from __future__ import annotations

import contextlib
import gc
import math
import sys
from collections.abc import Callable, Iterator
from numbers import Real
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import InputError

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
METAL, METALS = "max_recommended_working_set_size", "Metal's recommended working set"
UNLIMITED = 1 << 60  # limits above this are none: cgroup v1 says 2**63 less a page


class Quarter(int):
    """Bytes that nobody named: a quarter of what is free. limit: how an error says which limit they come from."""

    limit: str


def allowed_bytes(max_memory: Any, group: Any = None) -> int:
    """What a sweep may take beside the weights: the bytes that were named, or a quarter of what is free (`Quarter`).

    group: of the processes of a sharded model, which plan alike: the least of what is free on any of them.
    """
    if max_memory is None:
        own = default_memory()
        found = Quarter(agreed(own, group, np.min))
        limit = _least()[1] if found == own else "another process of this sharded model"
        left = f"a quarter of what {limit} leaves is {found:d} bytes"
        found.limit = f"max_memory is not set (it may name more), and {left}"
        return found
    if not _is_number(max_memory) or not 0 < max_memory < math.inf:
        raise InputError(f"max_memory is a number of bytes above 0, not {max_memory!r}")
    return int(max_memory)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def agreed(found: Any, group: Any, by: Callable[..., Any] = np.max) -> Any:
    """Numbers that were measured, as all processes of a sharded model take them; anything else as it is.

    Processes that planned by numbers of their own would run other passes, and wait for each other for ever.
    """
    numbers = found if isinstance(found, tuple) else (found,)
    if group is None or not numbers or any(type(x) not in (int, float) for x in numbers):
        return found
    halves = mx.array(
        [divmod(float(x), 1 << 20) for x in numbers]
    )  # in float32, small numbers and large ones
    of_all = np.array(mx.distributed.all_gather(halves[None], group=group, stream=mx.cpu), dtype=np.float64)
    least = by(of_all[..., 0] * (1 << 20) + of_all[..., 1], axis=0).tolist()
    return tuple(least) if isinstance(found, tuple) else least[0]


def of_first(found: np.ndarray, group: Any) -> np.ndarray:
    """Numbers as the first process of a sharded model has them, to the bit, for what all choose or stop by.

    Unlike machines round differently, and would put what is almost equal in another order.
    """
    if group is None or not found.size:
        return found
    own = np.ascontiguousarray(found).reshape(-1).view(np.uint8)
    handed = mx.array(own if group.rank() == 0 else np.zeros_like(own))
    of_all = np.array(mx.distributed.all_sum(handed, group=group, stream=mx.cpu))
    return of_all.view(found.dtype).reshape(found.shape)


@contextlib.contextmanager
def measured_peak() -> Iterator[Callable[[], int]]:
    """Bytes that MLX holds in here at most, beside those it held before: what is yielded says it.

    What the garbage collector lets go of meanwhile would be missing from the peak: it rests.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        mx.synchronize()
        mx.clear_cache()
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        yield lambda: mx.get_peak_memory() - before
    finally:
        if collecting:
            gc.enable()


def default_memory() -> int:
    """A quarter of what is free, in bytes: Python, NumPy and the rest of the machine want some too."""
    return max(1, free() // 4)


def free() -> int:
    """Bytes that can still be taken before the first limit is met; 8 GiB where nothing says."""
    return _least()[0]


def _least() -> tuple[int, str]:
    """What the limit that is met first leaves, and its name."""
    found = [
        (_device(), METALS if METAL in mx.device_info() else "the device's memory"),
        (_machine(), "this machine's memory (MemAvailable)"),
        (_address_space(), "the limit of this process (ulimit -v, ulimit -d)"),
        *((left, "this process's control group (a container, a job)") for left in _control_groups()),
    ]
    known = [(max(0, left), name) for left, name in found if left is not None]
    return min(known, default=(8 << 30, "a machine that does not say what is free, taken as 8 GiB,"))


def _device() -> int | None:
    """Of what MLX may use of an accelerator (on macOS: Metal's recommended working set), what it does not."""
    info = mx.device_info()
    total = info.get(METAL) or info.get("memory_size")
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
