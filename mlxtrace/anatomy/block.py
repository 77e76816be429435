"""A context manager that knows whether its block still runs, whatever interrupted entering or leaving it.

A `with` statement holds the `__exit__` that it looked up until it is left, by whatever road: also when Ctrl-C falls
between two bytecodes of `__exit__` itself. Here each statement gets an `__exit__` object of its own, and the
block looks at it weakly: gone means left.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any


class _Thread(threading.local):
    """Lives as long as the thread that made it."""

    def __init__(self):
        self.sentinel = type("Sentinel", (), {})()


_thread = _Thread()


class Lock:
    """A re-entrant lock for work of microseconds, which a holder that was interrupted cannot keep for ever."""

    def __init__(self):
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=1.0):
            self._lock = threading.RLock()
            self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(RuntimeError):  # another lock by now, which is not this thread's
            self._lock.release()


class leaving:
    """Decorates `__exit__`: every `with` statement is handed an object of its own."""

    def __init__(self, function: Callable[..., Any]):
        self._function = function

    def __get__(self, block: Block | None, cls: type | None = None) -> Callable[..., Any]:
        if block is None:
            return self._function
        exit = functools.partial(self._function, block)
        if not block.entered:
            block.statement = weakref.ref(exit, _abandoning(block))
        return exit


class Block:
    """A block that has been `entered` and perhaps `left`; `running` in between, and never after its end.

    Entered by hand (`block.__enter__()`), it runs until its `__exit__` is called, nobody holds it any more, or
    the thread that entered it has ended.
    """

    entered = False
    left = False
    statement: weakref.ref | None = None  # to what the `with` statement holds
    thread: weakref.ref | None = None  # to what the thread holds

    def enter(self) -> None:
        """Note that the block is being entered."""
        if self.statement is not None and self.statement() is None:
            self.statement = None  # somebody looked at `__exit__`, and entered by hand
        self.thread = weakref.ref(_thread.sentinel, _abandoning(self))
        self.entered = True

    @property
    def running(self) -> bool:
        """Whether the block has been entered and not been left."""
        held = self.thread if self.statement is None else self.statement
        return self.entered and not self.left and held is not None and held() is not None

    def abandon(self) -> None:
        """Put back what entering changed; may be repeated."""
        raise NotImplementedError

    def __del__(self) -> None:
        if self.entered and not self.left:
            self.left = True
            self.abandon()


def _abandoning(block: Block) -> Callable[[Any], None]:
    """What happens when the statement or the thread is gone and the block was not left in order."""
    weakly = weakref.ref(block)

    def gone(_: Any) -> None:
        block = weakly()
        if block is not None and block.entered and not block.left and not block.running:
            block.abandon()

    return gone
