"""One forward pass as a coroutine: it runs in a greenlet, and waits at whatever port it is asked for.

    run = Pass(resolver, tokens)
    run.begin()
    x = run.until(port)      # the array that passes there, or None when the pass ended without it
    run.until(None)          # to the end

A port is (module path, "input" or "output", visit). At each port that fires, declared edits come first, then
whoever waits there, then the record.
"""

from __future__ import annotations

import contextvars
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import mlx.core as mx
from greenlet import GreenletExit, getcurrent, greenlet
from greenlet import error as GreenletError

from ..anatomy.attention import attending, hook_of
from ..anatomy.attention import tidy as release
from ..anatomy.block import Block
from ..anatomy.recording import forward
from ..anatomy.resolver import ModuleResolver
from ..anatomy.taps import Taps, arrays_of, first_array, fresh, put_argument, put_first
from ..errors import OrderError

Port = tuple[str, str, int]


class Pass:
    """A forward pass of a model on token ids `[B, T]`.

    Attributes:
        edits: `{port: [function x -> x]}`, applied whenever the port fires.
        needed: ports to keep in `seen` even when not all are kept.
        seen: `{port: array}` of what went on, edits included.
        order: the ports in the order in which they fired.
        settle: what the one who waited has made of the array, asked when the pass goes on. A weak method:
            a waiting pass must not keep alive the trace that it belongs to.
    """

    def __init__(
        self, resolver: ModuleResolver, tokens: mx.array, keep_all: bool, settle: weakref.WeakMethod
    ):
        self.resolver, self.tokens = resolver, tokens
        self.keep_all, self.settle = keep_all, settle
        self.edits: dict[Port, list[Callable[[mx.array], mx.array]]] = {}
        self.needed: set[Port] = set()
        self.seen: dict[Port, mx.array] = {}
        self.order: dict[Port, None] = {}
        self.paused: Port | None = None
        self.awaited: Port | None = None
        self.logits: mx.array | None = None
        self.error: BaseException | None = None
        self._kept_bases: list[Port] = []  # of this layer: what resid_mid and sums are reckoned from
        self._visits: dict[str, int] = {}
        self._taps: Taps | None = None
        self._coroutine: greenlet | None = None
        self._body: greenlet | None = None

    # ---- running it

    def begin(
        self, block: Block, only: set[str] | None = None, refuse: Callable[[Any], None] | None = None
    ) -> None:
        """Put taps in all modules or only in those paths, for as long as the block runs at most.

        refuse: called with a tapped module that somebody else calls meanwhile.
        """
        modules = self.resolver.modules if only is None else {p: self.resolver.paths[p] for p in only}
        self._taps = Taps(((m, self._handler(path)) for path, m in modules.items()), block, refuse)
        self._coroutine = greenlet(self._run)
        self._coroutine.gr_context = contextvars.copy_context()
        self._taps.activate(self._coroutine.gr_context)
        self._taps.put_in()

    def _run(self) -> None:
        try:
            self.logits = forward(self.resolver.net, self.tokens)
        except GreenletExit:
            raise
        except BaseException as error:
            self.error = error
            raise

    @property
    def ended(self) -> bool:
        return self._coroutine.dead

    def until(self, port: Port | None) -> mx.array | None:
        """Go on until the port fires (its array), or else to the end (None)."""
        if self.error is not None:
            raise OrderError(f"the pass has failed already ({type(self.error).__name__}: {self.error})")
        if not self.ended:
            self.awaited, self._body = port, getcurrent()
            try:
                self._coroutine.parent = self._body
                self._coroutine.switch()
            except (GreenletError, ValueError) as error:
                if error is self.error:
                    raise
                raise OrderError(f"a trace is read in the thread that opened it ({error})") from error
        self.awaited = None
        return self.seen[port] if port is not None and self.paused == port else None

    def stop(self) -> None:
        """End the pass where it stands, take its taps out, and let go of all but its logits; may be repeated."""
        coroutine, taps = self._coroutine, self._taps
        try:
            if coroutine and not coroutine.dead:
                coroutine.parent = getcurrent()
                coroutine.throw(GreenletExit)
        except (GreenletError, ValueError):
            pass  # another thread's coroutine cannot be thrown into; what it holds can still be taken from it
        finally:
            if taps is not None:
                taps.abandon()
            release()
            # each of these leads back here: without it only the cycle collector would free the activations
            self._coroutine = self._body = self._taps = self.error = None
            self.edits, self.seen = {}, {}

    # ---- inside it

    def _handler(self, path: str):
        slot, visits, fire = self.resolver.slots.get(path), self._visits, self._fire
        attends = self.resolver.attends

        def handler(forward, args, kwargs):
            visit = visits.get(path, 0)
            visits[path] = visit + 1
            if path:
                key, x = _argument(args, kwargs, slot)
                if x is not None:
                    y = fire((path, "input", visit), x)
                    if y is not x:
                        args, kwargs = put_argument(args, kwargs, key, y)
            with attending(self._attention(path, visit), self._taps) if path in attends else nullcontext():
                out = forward(*args, **kwargs)
            x = first_array(out)
            if x is None:
                return out
            y = fire((path, "output", visit), x)
            return out if y is x else put_first(out, y)

        return handler

    def _attention(self, path: str, visit: int) -> Callable[..., mx.array]:
        """Fire the ports of one attention call; its pattern only where somebody wants it."""

        def wants(name: str) -> bool:
            port = (path, name, visit)
            return self.keep_all or port in self.edits or port in self.needed or port == self.awaited

        return hook_of(lambda name, x: self._fire((path, name, visit), x), wants)

    def _fire(self, port: Port, x: mx.array) -> mx.array:
        self.order[port] = None
        for edit in self.edits.get(port, ()):
            x = edit(x)
        if port == self.awaited:
            x = self._wait(port, x)
        if self.keep_all or port in self.needed:
            self.seen[port] = fresh(x)
        elif port in self.resolver.bases:
            if port[1] == "input":  # a new layer: what the last one's sites were reckoned from is done with
                for old in self._kept_bases:
                    self.seen.pop(old, None)
                self._kept_bases = []
            self._kept_bases.append(port)
            self.seen[port] = fresh(x)
        else:
            self.seen.pop(port, None)
        return x

    def _wait(self, port: Port, x: mx.array) -> mx.array:
        self.paused, self.seen[port] = port, fresh(x)
        self._body.switch()
        settle = self.settle()
        if settle is None:
            raise GreenletExit
        x = settle(x, self.awaited)
        self.paused = None
        return x


def _argument(args: tuple, kwargs: dict, slot: int | str | None) -> tuple[Any, mx.array | None]:
    """The argument that a module's input means: the one in the slot, else the first array."""
    if slot is None:
        if args and isinstance(args[0], mx.array):
            return 0, args[0]
        return next(arrays_of(args, kwargs), (None, None))
    x = (args[slot] if slot < len(args) else None) if isinstance(slot, int) else kwargs.get(slot)
    return (slot, x) if isinstance(x, mx.array) else (None, None)
