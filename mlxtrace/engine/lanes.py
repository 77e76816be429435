"""Passes side by side: on a CPU an MLX stream is one thread, so that a few of them keep the cores busy.

Most of MLX's work on a CPU, besides its matrix products, runs on one core. An accelerator works on a pass with all
that it has: there is one lane.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import mlx.core as mx

MOST_LANES = 4
Group = TypeVar("Group")


def lanes() -> int:
    """How many passes are worth running at the same time here."""
    if mx.default_device() != mx.Device(mx.cpu):
        return 1
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(free, MOST_LANES))


@functools.cache
def _streams(thread: int, n: int) -> list[Any]:
    """The lanes after the first, which is the default stream. A stream belongs to a thread, and lasts as long."""
    return [mx.new_stream(mx.Device(mx.cpu)) for _ in range(n - 1)]


def in_lanes(groups: Sequence[Group], begin: Callable[[Group], Any], n: int) -> Iterator[tuple[Group, Any]]:
    """Each group with what `begin(group)` returned, in order: something with `.logits`, which are computed by then.

    `n` groups at a time are begun, each in a lane of its own, and computed together.
    """
    streams = _streams(threading.get_ident(), n)
    for first in range(0, len(groups), n):
        some = groups[first : first + n]
        begun = [begin(some[0])]
        for group, stream in zip(some[1:], streams, strict=False):
            with mx.stream(stream):
                begun.append(begin(group))
        mx.eval([one.logits for one in begun])
        yield from zip(some, begun, strict=True)
