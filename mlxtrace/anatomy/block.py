"""A context manager that knows whether its block still runs, whatever interrupted entering or leaving it.

A `with` statement holds the `__exit__` that it looked up until it is left, also when Ctrl-C falls between two
bytecodes of `__exit__` itself. Here each statement gets an `__exit__` object of its own, and the block looks at it
weakly: gone means left.

    Block         one block, from entering to leaving
    ContextBlock  a block whose effect holds in its own context only, until the next one inside it
    OpenBlocks    the blocks of one kind that are open: everywhere, and here
"""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Generic, TypeVar


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
        holder = self.thread if self.statement is None else self.statement
        return self.entered and not self.left and holder is not None and holder() is not None

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


class ContextBlock(Block):
    """A block that holds in the context that entered it, in place of the `outer` one of its kind.

    within: a block that this one cannot outlive.
    """

    def __init__(self, within: Block | None = None):
        self.outer: Any = None  # of the same kind
        self._within = None if within is None else weakref.ref(within)

    @property
    def running(self) -> bool:
        """Whether the block has been entered and not been left, and so the one that it is within."""
        return super().running and self._within_runs()

    def _within_runs(self) -> bool:
        within = None if self._within is None else self._within()
        return self._within is None or (within is not None and within.running)


B = TypeVar("B", bound=ContextBlock)


class OpenBlocks(Generic[B]):
    """The open blocks of one kind: those that changed something for all contexts, and the innermost of each context.

    Attributes:
        lock: held while what they change for all is changed; re-entrant, because a block that is collected may put
            back its changes while another one makes its own.
        everywhere: those for whom something is changed; weak, so that a block that nobody holds is over.
    """

    def __init__(self, name: str):
        self.lock = Lock()
        self.everywhere: tuple[weakref.ref[B], ...] = ()
        self._innermost: ContextVar[B | None] = ContextVar(name, default=None)

    def add(self, block: B) -> None:
        """Note a block that changes something for all contexts."""
        self.everywhere = (*self.everywhere, weakref.ref(block))

    def running(self) -> list[B]:
        """The blocks of all contexts that still run; the others are forgotten."""
        found = [block for ref in self.everywhere if (block := ref()) is not None and block.running]
        self.everywhere = tuple(weakref.ref(block) for block in found)
        return found

    def here(self) -> B | None:
        """The block that holds in this context; one that was left is passed over."""
        block = self._innermost.get()
        while block is not None and not block.running:
            block = block.outer
        return block

    def go_in(self, block: B) -> None:
        """Let a block hold in this context, until `go_out`."""
        block.outer = self.here()
        self._innermost.set(block)

    def set_here(self, block: B) -> None:
        """Let a block hold in this context, for good."""
        self._innermost.set(block)

    def go_out(self, block: B) -> None:
        """Let the block around this one hold again, if this one is the innermost here."""
        if self._innermost.get() is block:
            self._innermost.set(block.outer)
