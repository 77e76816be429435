"""Which traces are open where a piece of code runs: `model.layers[3].output` belongs to the innermost."""

from __future__ import annotations

import contextvars
import inspect
import sys
import weakref
from typing import Any, Protocol

from greenlet import getcurrent

from ..anatomy.resolver import Site
from ..errors import OrderError


class OpenTrace(Protocol):
    """What is asked of a trace: a `Trace`, which this file need not know.

    Attributes:
        net: the model that is traced.
        generators: the frames of the generators in which the block was opened, see `generators`.
    """

    net: Any
    generators: frozenset

    @property
    def running(self) -> bool: ...

    @property
    def is_open(self) -> bool: ...

    @property
    def has_prompt(self) -> bool: ...

    def read(self, site: Site) -> Any: ...

    def write(self, site: Site, value: Any) -> None: ...


# Weak: a trace that nobody holds any more is over, and must not live on in some context.
_open: contextvars.ContextVar[tuple[weakref.ref[OpenTrace], ...]] = contextvars.ContextVar(
    "mlxtrace_open_traces", default=()
)


def add(trace: OpenTrace) -> None:
    """Note a trace whose block begins here; those that are gone are forgotten."""
    _open.set((*(ref for ref in _open.get() if ref() is not None), weakref.ref(trace)))


def remove(trace: OpenTrace) -> None:
    """Forget a trace whose block has ended, and those that are gone."""
    _open.set(tuple(ref for ref in _open.get() if ref() not in (None, trace)))


def here(net: Any = None) -> list[OpenTrace]:
    """The traces (of a model) whose blocks this code is in, the innermost last."""
    found = [trace for ref in _open.get() if (trace := ref()) is not None and trace.running]
    found = [trace for trace in found if trace.is_open and net in (None, trace.net)]
    if any(trace.generators for trace in found):
        now = generators()
        found = [trace for trace in found if trace.generators <= now]
    return found


def current(net: Any) -> OpenTrace:
    """The innermost open trace of a model; OrderError outside any."""
    for trace in reversed(here(net)):
        if trace.has_prompt:
            return trace
    raise OrderError(
        "activations exist inside `with model.trace(prompt):` only; no trace of this model is open here"
    )


def generators() -> frozenset:
    """The frames of the generators that this code runs in.

    A generator may be suspended inside its `with`; what runs meanwhile is not in that block. The generator of a
    `contextlib.contextmanager` is left out: its block goes on in the caller's.
    """
    found, frame, running = [], sys._getframe(1), getcurrent()
    while frame is not None:
        if frame.f_code.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
            caller = frame.f_back
            if caller is None or caller.f_globals.get("__name__") != "contextlib":
                found.append(frame)
        frame = frame.f_back
        while frame is None and running.parent is not None:  # on in the greenlet that waits for this one
            running = running.parent
            frame = running.gr_frame
    return frozenset(found)
