"""The ranks of a sharded model as threads of one process: quick, and without anything launched.

    found = on_ranks(2, lambda group: ask(sharded(group)))          # by rank

For traces: sweeps use `functools.cached_property`, which before Python 3.12 holds a lock that all threads share.
Collectives wait for each other at a barrier; a rank that fails ends the others. Passes are plain ones: what a
transform is tracing cannot be handed from thread to thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

_here = threading.local()


class Group:
    """One rank's view of a group of threads."""

    def __init__(self, rank: int, size: int, meeting: threading.Barrier, handed: list):
        self._rank, self._size, self._meeting, self._handed = rank, size, meeting, handed

    def rank(self) -> int:
        return self._rank

    def size(self) -> int:
        return self._size

    def of_all(self, x: mx.array) -> list[np.ndarray]:
        """The array that each rank hands in."""
        mx.eval(x)
        self._handed[self._rank] = np.array(x)
        self._meeting.wait(60)
        found = list(self._handed)
        self._meeting.wait(60)
        return found


def _all_gather(x: mx.array, group: Group, stream: Any = None) -> mx.array:
    return mx.array(np.concatenate(group.of_all(x)))


def _all_sum(x: mx.array, group: Group, stream: Any = None) -> mx.array:
    return mx.array(sum(group.of_all(x)[1:], group.of_all(x)[0]))


def on_ranks(size: int, ask: Callable[[Group], Any]) -> list[Any]:
    """What each rank finds."""
    meeting, handed = threading.Barrier(size), [None] * size
    found: list[Any] = [None] * size
    failed: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            with mx.stream(mx.new_stream(mx.cpu)):
                found[rank] = ask(Group(rank, size, meeting, handed))
        except BaseException as error:
            failed.append(error)
            meeting.abort()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mx.distributed, "all_gather", _all_gather)
        patch.setattr(mx.distributed, "all_sum", _all_sum)
        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failed:
        raise next((e for e in failed if not isinstance(e, threading.BrokenBarrierError)), failed[0])
    return found
