"""One forward pass as a coroutine: it runs in a greenlet, and waits at whatever port it is asked for.

    run = Pass(resolver, tokens, keep_all=True, after_waiting=...)
    run.begin(block, only=None, refuse=...)
    x = run.until(port)      # the array that passes there, or None when the pass ended without it
    run.until(None)          # to the end

At each port that fires (see `anatomy.calls`), declared edits come first, then the body if it waits there, then the
record.
"""

from __future__ import annotations

import contextvars
import weakref
from collections.abc import Callable, Sequence

import mlx.core as mx
from greenlet import GreenletExit, getcurrent, greenlet
from greenlet import error as GreenletError

from ..anatomy.calls import Block, Calls, Port, Refuse, tidy
from ..anatomy.recording import forward
from ..anatomy.resolver import ModuleResolver, Site
from ..errors import OrderError


class Pass(Calls):
    """A forward pass of a model on token ids `[B, T]`.

    Attributes:
        edits: `{port: [function x -> x]}`, applied whenever the port fires.
        needed: ports to keep in `seen` even when not all are kept.
        seen: `{port: array}` of what went on, edits included.
        order: the ports in the order in which they fired.
        after_waiting: (x, next port) -> what the body has made of the array x that it waited at. A weak method: a
            waiting pass must not keep alive the trace that it belongs to.
        logits: `[B, T, V]`, once the pass has ended.
    """

    logits: mx.array

    def __init__(
        self, resolver: ModuleResolver, tokens: mx.array, keep_all: bool, after_waiting: weakref.WeakMethod
    ):
        super().__init__(resolver.slots)
        self.resolver, self.tokens = resolver, tokens
        self.keep_all, self.after_waiting = keep_all, after_waiting
        self.edits: dict[Port, list[Callable[[mx.array], mx.array]]] = {}
        self.needed: set[Port] = set()
        self.seen: dict[Port, mx.array] = {}
        self.order: dict[Port, None] = {}
        self.paused: Port | None = None
        self.awaited: Port | None = None
        self.error: BaseException | None = None
        self._kept_bases: list[Port] = []  # of this layer: what its resid_mid and its sums are computed from
        self._coroutine: greenlet | None = None
        self._body: greenlet | None = None

    # ---- running it

    def begin(self, block: Block, only: set[str] | None, refuse: Refuse) -> None:
        """Put taps in all modules or only in those paths, for as long as the block runs at most.

        refuse: called with a tapped module that somebody else calls meanwhile, and whether mlxtrace does.
        """
        modules = self.resolver.modules if only is None else {p: self.resolver.paths[p] for p in only}
        self.taps = self.tapping(modules, block, refuse)
        self._coroutine = greenlet(self._run)
        context = self._coroutine.gr_context = contextvars.copy_context()
        self.taps.activate(context)
        self.taps.put_in()

    def _run(self) -> None:
        try:
            self.logits = forward(self.resolver.net, self.tokens)
            self.resolver.meet("the end of a trace")
        except GreenletExit:
            raise
        except BaseException as error:
            self.error = error
            raise

    def until(self, port: Port | None) -> mx.array | None:
        """Go on until the port fires (its array), or else to the end (None)."""
        if self.error is not None:
            raise OrderError(f"the pass has failed already ({type(self.error).__name__}: {self.error})")
        if self._coroutine is not None and not self._coroutine.dead:
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
        coroutine, taps = self._coroutine, self.taps
        try:
            if coroutine and not coroutine.dead:
                coroutine.parent = getcurrent()
                coroutine.throw(GreenletExit)
        except (GreenletError, ValueError):
            pass  # another thread's coroutine cannot be thrown into; what it holds can still be taken from it
        finally:
            if taps is not None:
                taps.abandon()
            tidy()
            # each of these leads back here: without it only the cycle collector would free the activations
            self._coroutine = self._body = self.taps = self.error = None
            self.edits, self.seen = {}, {}

    # ---- inside it; what is recorded is a handle of its own (`mx.array(x)`): models rebind theirs in place

    def wants(self, port: Port) -> bool:
        """Whether a port fires: every input and output does, the others where they are asked for."""
        return (
            port[1] in ("input", "output")
            or self.keep_all
            or port in self.edits
            or port in self.needed
            or port == self.awaited
        )

    def attends(self, path: str, visit: int) -> bool:
        """Whether a module makes an attention call; what of it is wanted may be asked for until it is made."""
        return path in self.resolver.attends

    def passes(self, port: Port, x: mx.array) -> mx.array:
        """Let a port fire: declared edits, then the body if it waits there, then the record."""
        self.order[port] = None
        if self.resolver.group is not None and self.resolver.differs(*port[:2]):
            return x  # a rank's own part, which nothing makes whole: no name leads to it
        edits = self.edits.get(port, ())
        if self.resolver.group is not None and (edits or port == self.awaited):
            self._together(port, x)
        before = x
        for edit in edits:
            x = edit(x)
        if port == self.awaited:
            x = self._wait(port, x)
        if x is not before:
            self.resolver.check_alike(port_name(port), x)
        if self.keep_all or port in self.needed:
            self.seen[port] = mx.array(x)
        elif port in self.resolver.bases:
            if port[1] == "input":  # a new layer: the last one's are no longer needed
                for old in self._kept_bases:
                    self.seen.pop(old, None)
                self._kept_bases = []
            self._kept_bases.append(port)
            self.seen[port] = mx.array(x)
        else:
            self.seen.pop(port, None)
        return x

    def _together(self, port: Port, x: mx.array) -> None:
        """Compute what is about to be handed out on all ranks of a sharded model at once.

        A rank that looked at it alone (`if rank == 0: print(h)`) would compute its sums over ranks while the others
        are at other ones.
        """
        self.resolver.meet(f"{port_name(port)} in a trace")
        compute([x, *self.seen.values()])

    def _wait(self, port: Port, x: mx.array) -> mx.array:
        self.paused, self.seen[port] = port, mx.array(x)
        if self._body is not None:
            self._body.switch()
        after_waiting = self.after_waiting()
        if after_waiting is None:
            raise GreenletExit
        x = after_waiting(x, self.awaited)
        self.paused = None
        return x

    def base(self, site: Site) -> mx.array | None:
        """What a site's array is added to, where it is a sum: from what went by before it."""
        for base in site.bases:
            if base.port not in self.seen:
                raise OrderError(f"{site.name} needs {base.name}, which went by unrecorded (cache=False)")
        return site.base(lambda base: self.seen[base.port])


def port_name(port: Port | None) -> str:
    """A port for error messages; None is the end of the pass."""
    return ".".join((port[0] or "logits", port[1])) if port else "the end"


def compute(arrays: Sequence[mx.array]) -> None:
    """Compute now, so that a failure surfaces here; inside `mx.grad` the arrays stay symbolic."""
    try:
        mx.eval(arrays)
    except ValueError as error:
        if "transform" not in str(error):
            raise
