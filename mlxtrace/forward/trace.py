"""One traced forward pass, with or without a body that reads and edits it while it runs.

The pass and the body of the `with` block are two coroutines (`coroutine.Pass`). Asking for a site resumes the
pass until that site's tap fires and hands the array over; when the body asks for the next site, or ends, the
tap returns whatever the array has become. Sites are therefore asked for in the order in which they run.
"""

from __future__ import annotations

import contextvars
import inspect
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import mlx.core as mx
import numpy as np
from greenlet import getcurrent

from ..anatomy.block import Block, leaving
from ..anatomy.resolver import ModuleResolver, Site
from ..anatomy.taps import fresh, tidy, untapped
from ..errors import EditError, InputError, OrderError, SiteError
from ..finite import unbroken
from ..interventions import called
from .activation import Activation, Hand
from .cache import ActivationCache, port_key
from .forward_pass import Pass, Port

Edit = Callable[[mx.array], mx.array]

# Weak: a trace that nobody holds any more is over, and must not live on in some context.
_open: contextvars.ContextVar[tuple[weakref.ref[Trace], ...]] = contextvars.ContextVar(
    "mlxtrace_open_traces", default=()
)


def _here(net: Any = None) -> list[Trace]:
    """The traces (of a model) whose blocks this code is in, the innermost last."""
    found = [trace for ref in _open.get() if (trace := ref()) is not None and trace.running]
    found = [t for t in found if t._state == "open" and net in (None, t.resolver.net)]
    if any(trace._generators for trace in found):
        now = generators()
        found = [trace for trace in found if trace._generators <= now]
    return found


def current(net: Any) -> Trace:
    """The innermost open trace of a model; OrderError outside any."""
    for trace in reversed(_here(net)):
        if trace.has_prompt:
            return trace
    raise OrderError(
        "activations exist inside `with model.trace(prompt):` only; no trace of this model is open here"
    )


class Trace(Block):
    """The context manager behind `model.trace(...)`.

    Args:
        resolver: of the model to run.
        prompt: token ids `[B, T]`, or None when only `invoke` is used.
        prepare: prompt -> token ids `[B, T]`, for `invoke`.
        interventions: `{site name: fn}`, applied whenever the site is reached, before the body sees it.
        cache: keep every module's activations. sites: keep only these.
    """

    def __init__(
        self,
        resolver: ModuleResolver,
        prompt: mx.array | None,
        prepare: Callable[[Any], mx.array],
        interventions: Mapping[str, Edit] | None = None,
        cache: bool = True,
        sites: list[str] | None = None,
    ):
        self.resolver, self.tokens = resolver, prompt
        self._prepare, self._cache = prepare, cache
        self._kept = None if sites is None else {name: resolver.resolve(name) for name in _names(sites)}
        self._declared = declared(resolver, {} if interventions is None else interventions)
        self.invokes: list[Trace] = []
        self._live: list[tuple[Site, Activation]] = []  # what the body holds where the pass waits
        self._handed: list[Activation] = []
        self._pass: Pass | None = None
        self._activations: ActivationCache | None = None
        self._state = "new"
        self._generators: frozenset = frozenset()  # where the block was opened

    @property
    def has_prompt(self) -> bool:
        """Whether the trace runs a pass of its own, not only those of `invoke`."""
        return self.tokens is not None

    # ---- what a trace leaves

    @property
    def output(self) -> mx.array:
        """Logits `[B, T, V]`, edits included."""
        self._need_done("output")
        return self._pass.logits

    @property
    def activations(self) -> ActivationCache:
        """Every activation as it went on, edits included."""
        self._need_done("activations")
        if not self._cache and self._kept is None:
            raise OrderError("this trace was made with cache=False, so it keeps no activations")
        return self._activations

    def _need_done(self, what: str) -> None:
        if not self.has_prompt:
            raise OrderError(
                f"this trace has no prompt of its own, so it has no {what}: "
                "read them from the invocation, `with trace.invoke(prompt) as run`"
            )
        if self._state != "done":
            raise OrderError(
                f"trace.{what} exists after the block, when the pass has ended (it is {self._state})"
            )

    def invoke(self, prompt: Any, interventions: Mapping[str, Edit] | None = None) -> Trace:
        """A further prompt in the same block, as its own pass: `with trace.invoke(prompt) as run: ...`."""
        made = Trace(self.resolver, self._prepare(prompt), self._prepare, interventions, self._cache)
        self.invokes.append(made)
        return made

    # ---- what the body asks for

    def read(self, site: Site) -> Activation:
        """The array at a site: live when the pass has just reached it, a record when it has gone by.

        Raises:
            OrderError: the site is never reached in this pass, or has gone by unrecorded.
        """
        run, port = self._pass, site.port
        if self._state != "open":
            raise OrderError(f"{site.name} cannot be read: the trace is {self._state}")
        if run.paused == port:
            return self._hold(site)
        if port in run.order:
            return self._record(site)
        run.needed.update(base.port for base in site.bases)
        if run.until(port) is None:
            raise OrderError(
                f"{site.name} was never reached: the pass ended without calling it. "
                "`model.resolver.sites()` lists what this model runs"
            )
        return self._hold(site)

    def write(self, site: Site, value: Any) -> None:
        """Put a whole array in a site's place; OrderError when the site has gone by."""
        held = self.read(site)
        held.editable()
        value = checked(value, held, site.name)
        held[...] = value

    def _record(self, site: Site) -> Activation:
        if site.port not in self._pass.seen:
            raise OrderError(f"{site.name} has gone by, and this trace keeps no activations (cache=False)")
        hand = Hand(site.name, open=False, now=self._here())
        return self._hand(site.get(self._pass.seen[site.port], self._base(site)), hand)

    def _hold(self, site: Site) -> Activation:
        """The live array at the port where the pass waits, in this site's view of it."""
        for held_site, held in self._live:
            if held_site.view == site.view:
                return held
        # Another view of the same array: the earlier one is taken over as it stands, and closed.
        seen, port = self._pass.seen, self._pass.paused
        seen[port] = self._settle(seen[port], None, site.name)
        held = self._hand(site.get(seen[port], self._base(site)), Hand(site.name))
        self._live.append((site, held))
        return held

    def _hand(self, x: mx.array, hand: Hand) -> Activation:
        self._handed.append(Activation.of(x, hand))
        return self._handed[-1]

    def _settle(self, x: mx.array, awaited: Port | None, now: str = "") -> mx.array:
        """The array that goes on, and the end of the body's chance to change it."""
        for site, held in self._live:
            if held.hand.touched:
                x = unbroken(x, site.put(x, fresh(held).astype(x.dtype), self._base(site)), site.name)
            held.hand.open, held.hand.now = False, now or _port_name(awaited)
        self._live = []
        return x

    def _base(self, site: Site) -> mx.array | None:
        return _base(self._pass, site)

    def _here(self) -> str:
        return _port_name(self._pass.paused)

    # ---- the block

    def __enter__(self) -> Trace:
        if self._state != "new":
            raise OrderError("a trace runs once; call model.trace(...) again for another pass")
        self.enter()
        try:
            if self.has_prompt:
                self._begin()
            self._generators = generators()
            self._state = "open"
            _open.set((*(ref for ref in _open.get() if ref() is not None), weakref.ref(self)))
        except BaseException:
            self.abandon()
            raise
        return self

    def _begin(self) -> None:
        settle = weakref.WeakMethod(self._settle)
        run = self._pass = Pass(self.resolver, self.tokens, self._cache and self._kept is None, settle)
        sites = [*(self._kept or {}).values(), *(site for _, site, _ in self._declared)]
        run.needed = {b.port for s in sites for b in s.bases} | {s.port for s in (self._kept or {}).values()}
        for key, site, fn in self._declared:
            run.edits.setdefault(site.port, []).append(_edit(run, key, site, fn))
        only = {"", *(s.path for site in sites for s in (site, *site.bases))}
        refuse = weakref.WeakMethod(self._refuse)
        run.begin(self, None if self._kept is None else only, lambda module: refuse()(module))

    def _refuse(self, module: Any) -> None:
        """OrderError when the model is run in this block by somebody else than this trace."""
        parts = self.resolver.structure.layers[0].path.split(".")
        holders = (".".join(parts[:n]) for n in range(len(parts)))  # of all layers, the model itself included
        if any(module is self.resolver.paths.get(path) for path in holders) and self in _here():
            raise OrderError(
                "the model was run inside `with model.trace(...)`, but not by the trace, whose edits and "
                "interventions do not reach such a run (mlx_lm.generate, model.net(ids)). Run it before or after "
                "the block, or open `with model.trace(ids)` for it inside this one"
            )

    @leaving
    def __exit__(self, kind, error, traceback) -> None:
        if self._state == "failed" and kind is not None:
            return
        if self._state != "open":
            raise OrderError(f"a trace is left once, after it was entered; this one is {self._state}")
        try:
            if self.has_prompt and kind is None:
                self._finish()
            if kind is None:
                self._state = "done"
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Stop the pass where it stands and put the model back; after the end of the block, nothing."""
        if self._state != "done":
            self._state = "failed"
        try:
            if self._pass is not None:
                self._pass.stop()
        finally:
            for x in self._handed:
                x.hand.close()
            self._handed, self._live, self._generators = [], [], frozenset()
            _open.set(tuple(ref for ref in _open.get() if ref() not in (None, self)))
            self.left = True
            tidy()

    def _finish(self) -> None:
        run = self._pass
        run.until(None)
        wanted = [(key, site, "the intervention at") for key, site, _ in self._declared]
        wanted += [(name, site, "the site") for name, site in (self._kept or {}).items()]
        for key, site, what in wanted:
            if site.port not in run.order:
                raise OrderError(
                    f"{what} {key!r} did not happen: the pass never called it. "
                    "`model.resolver.sites()` lists what this model runs"
                )
        ports, kept = self.resolver.ports, run.needed
        keep = {
            port_key(port): x
            for port, x in run.seen.items()
            if (port in kept if self._kept is not None else port[1] == "output" or port in ports)
        }
        run.seen = {}
        if not self._cache and self._kept is None:
            keep = {}
        self._activations = ActivationCache(keep, self.resolver.table)
        computed = [
            x for (side, _), x in keep.items() if side != "pattern"
        ]  # patterns wait until they are read
        settle([run.logits, *computed, *self._handed])


def _base(run: Pass, site: Site) -> mx.array | None:
    for base in site.bases:
        if base.port not in run.seen:
            raise OrderError(f"{site.name} needs {base.name}, which went by unrecorded (cache=False)")
    return site.base(lambda base: run.seen[base.port])


def _edit(run: Pass, key: str, site: Site, fn: Edit) -> Callable[[mx.array], mx.array]:
    """A declared intervention as an edit of the array at its port."""

    def edit(x: mx.array) -> mx.array:
        base = _base(run, site)
        before = site.get(x, base)
        hand = Hand(key)
        try:
            with untapped():
                after = fn(Activation.of(before, hand))
        finally:
            hand.close()
        return site.put(x, unbroken(before, checked(after, before, key), site.name), base)

    return edit


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


def _port_name(port: Port | None) -> str:
    return ".".join((port[0] or "logits", port[1])) if port else "the end"


def _names(sites: Any) -> Iterable[str]:
    if not isinstance(sites, Iterable):
        raise InputError(f"sites is a list of names, not {sites!r}")
    return sites


def declared(resolver: ModuleResolver, interventions: Mapping[str, Edit]) -> list[tuple[str, Site, Edit]]:
    """The interventions with their sites found; InputError or SiteError before anything runs."""
    if not isinstance(interventions, Mapping):
        raise InputError(
            f"interventions are a mapping {{site: function}}, not {type(interventions).__name__}"
        )
    found = []
    for key, fn in interventions.items():
        site = resolver.resolve(key)
        key = key if isinstance(key, str) else site.name
        called(fn)
        if not callable(fn):
            raise InputError(
                f"the intervention at {key!r} is {type(fn).__name__}, not a function array -> array"
            )
        if resolver.visits(site) > 1 and site.component is None and "@" not in key:
            raise SiteError(
                f"{key!r} is called {resolver.visits(site)} times in one pass: write {key}@0, {key}@1, ..."
            )
        found.append((key, site, fn))
    return found


def checked(value: Any, site_value: mx.array, name: str) -> mx.array:
    """A value that may stand in a site's place: same shape, cast to its dtype; EditError otherwise."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        value = mx.array(value)
    if not isinstance(value, mx.array):
        hint = "; return the array from the intervention" if value is None else ""
        if isinstance(value, (int, float)):
            hint = "; to fill the whole site write `site.output[...] = value`"
        raise EditError(
            f"{name} needs an mx.array {tuple(site_value.shape)}, not {type(value).__name__}{hint}"
        )
    if value.shape != site_value.shape:
        raise EditError(
            f"{name} has shape {tuple(site_value.shape)}, not {tuple(value.shape)}; "
            "to edit some positions write `site.output[:, position] = value`"
        )
    if value.dtype in (mx.bool_, mx.complex64):
        raise EditError(f"{name} holds {site_value.dtype}, not {value.dtype}")
    return fresh(value).astype(site_value.dtype)


def settle(arrays: list[mx.array]) -> None:
    """Compute now, so that a failure surfaces here; inside `mx.grad` the arrays stay symbolic."""
    try:
        mx.eval(arrays)
    except ValueError as error:
        if "transform" not in str(error):
            raise
