"""Which traces are open where a piece of code runs: `model.layers[3].output` belongs to the innermost.

What else runs the model there is refused, as the edits of the trace would not reach it.
"""

from __future__ import annotations

import contextvars
import inspect
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from greenlet import getcurrent

from ..anatomy.resolver import ModuleResolver, Site
from ..errors import OrderError


class OpenTrace(Protocol):
    """What is asked of a trace: a `Trace`, which this file need not know.

    Attributes:
        net: the model that is traced.
        generators: the frames of the generators in which the block was opened, see `generators`.
    """

    net: Any
    resolver: ModuleResolver
    generators: frozenset

    @property
    def running(self) -> bool: ...

    @property
    def is_open(self) -> bool: ...

    @property
    def has_prompt(self) -> bool: ...

    def _edited_sites(self) -> list[Site]: ...

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


# ---- runs beside a trace, which its edits do not reach


def refuse_beside(resolver: ModuleResolver, edited: Iterable[Site], module: Any, own: bool = False) -> None:
    """OrderError for a call of the model, or of a part of it that is edited.

    own: the call begins a pass of mlxtrace's own, in which nothing but the edits would be missing.
    """
    sites = list(edited)
    if own and module is resolver.net and sites:
        raise OrderError(
            f"an experiment was run inside `with model.trace(...)`, which edits {sites[0].name}: that edit would not "
            "reach it. Run it before or after the block"
        )
    if own:
        return
    parts = resolver.structure.layers[0].path.split(".")
    holders = (".".join(parts[:n]) for n in range(len(parts)))  # of all layers, the model itself included
    if any(module is resolver.paths.get(path) for path in holders):
        raise OrderError(
            "the model was run inside `with model.trace(...)`, but not by the trace, whose edits and "
            "interventions do not reach such a run (mlx_lm.generate, model.net(ids)). Run it before or after "
            "the block, or open `with model.trace(ids)` for it inside this one"
        )
    for site in sites:
        if module is resolver.paths.get(site.path):
            raise OrderError(
                f"{site.path} was called by hand, and the edit of {site.name} does not reach such a call: read its "
                "output in the trace, or call it before or after the block"
            )


def refusing(trace: OpenTrace) -> Callable[[Any, bool], None]:
    """What refuses calls of the model in a trace's block, which the trace does not make. It does not hold the trace."""
    weakly = weakref.ref(trace)

    def refuse(module: Any, own: bool) -> None:
        now = weakly()
        if now is not None and now in here():
            refuse_beside(now.resolver, now._edited_sites(), module, own)

    return refuse
