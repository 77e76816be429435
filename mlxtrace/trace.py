"""One traced forward pass, with or without a body that reads and edits it while it runs.

The pass and the body of the `with` block are two coroutines. The pass runs in a greenlet: asking for a site
resumes it until that site's tap fires and hands the array over; when the body asks for the next site, or ends,
the tap returns whatever the array has become. Sites are therefore asked for in the order in which they run.
"""

from __future__ import annotations

import contextvars
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
from greenlet import GreenletExit, getcurrent, greenlet

from .activation import Activation, Hand
from .cache import ActivationCache, cache_key
from .errors import EditError, InputError, OrderError, SiteError
from .resolver import ModuleResolver, Site
from .structure import forward
from .taps import arrays_of, first_array, fresh, put_argument, put_first, tapping, untapped

Edit = Callable[[mx.array], mx.array]
Port = tuple[str, str, int]

_open: contextvars.ContextVar[tuple[Trace, ...]] = contextvars.ContextVar("mlxtrace_open_traces", default=())


def current(net: Any) -> Trace:
    """The innermost open trace of a model; OrderError outside any."""
    for trace in reversed(_open.get()):
        if trace.resolver.net is net and trace.has_prompt:
            return trace
    raise OrderError(
        "activations exist inside `with model.trace(prompt):` only; no trace of this model is open"
    )


class Trace:
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
        self._kept = None if sites is None else [resolver.resolve(name) for name in sites]
        self._edits = self._declared(interventions or {})
        self.invokes: list[Trace] = []
        self._seen: dict[Port, mx.array] = {}
        self._order: dict[Port, int] = {}
        self._visits: dict[str, int] = defaultdict(int)
        self._hands: list[
            tuple[Site, Activation]
        ] = []  # what the body holds at the port where the pass waits
        self._handed: list[Activation] = []
        self._paused: Port | None = None
        self._awaited: Port | None = None
        self._pass: greenlet | None = None
        self._body: greenlet | None = None
        self._logits: mx.array | None = None
        self._activations: ActivationCache | None = None
        self._state = "new"

    @property
    def has_prompt(self) -> bool:
        return self.tokens is not None

    # ---- what a trace leaves

    @property
    def output(self) -> mx.array:
        """Logits `[B, T, V]`, edits included."""
        self._need_done("output")
        return self._logits

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
        tokens = self._prepare(prompt)
        made = Trace(self.resolver, tokens, self._prepare, interventions, self._cache)
        self.invokes.append(made)
        return made

    # ---- declared interventions

    def _declared(self, interventions: Mapping[str, Edit]) -> dict[Port, list[tuple[str, Site, Edit]]]:
        if not isinstance(interventions, Mapping):
            raise InputError(
                f"interventions are a mapping {{site: function}}, not {type(interventions).__name__}"
            )
        edits: dict[Port, list] = defaultdict(list)
        for key, fn in interventions.items():
            site = self.resolver.resolve(key)
            if not callable(fn):
                raise InputError(
                    f"the intervention at {key!r} is {type(fn).__name__}, not a function array -> array"
                )
            edits[site.port].append((key, site, fn))
        return edits

    def _apply(self, x: mx.array, key: str, site: Site, fn: Edit) -> mx.array:
        base = self._base(site)
        before = site.get(x, base)
        hand = Hand(key)
        with untapped():
            after = fn(Activation.of(before, hand))
        return site.put(x, checked(after, before, key), base)

    # ---- the pass

    def _fire(self, port: Port, x: mx.array) -> mx.array:
        """One port of the pass: declared edits, then the body if it waits here, then the record."""
        self._order[port] = len(self._order)
        for key, site, fn in self._edits.get(port, ()):
            x = self._apply(x, key, site, fn)
        if port == self._awaited:
            self._paused, self._awaited = port, None
            self._seen[port] = fresh(x)
            self._body.switch()
            for site, held in self._hands:
                x = self._settle(x, site, held)
            self._hands, self._paused = [], None
        if self._keeps(port):
            self._seen[port] = fresh(x)
        else:
            self._seen.pop(port, None)
        return x

    def _settle(self, x: mx.array, site: Site, held: Activation) -> mx.array:
        held.hand.open, held.hand.now = False, self._awaited_name()
        return site.put(x, fresh(held), self._base(site)) if held.hand.touched else x

    def _awaited_name(self) -> str:
        return ".".join(self._awaited[:2]) if self._awaited else "the end"

    def _base(self, site: Site) -> mx.array | None:
        return None if site.base is None else self._seen[site.base.port]

    def _keeps(self, port: Port) -> bool:
        return self._cache or port in self._needed

    def _handler(self, path: str):
        slot = self.resolver.input_site(path).slot if path else None

        def handler(forward, args, kwargs):
            visit = self._visits[path]
            self._visits[path] += 1
            self._refuse_unclear_visit(path, visit)
            key, x = next(
                ((k, a) for k, a in arrays_of(args, kwargs) if slot is None or k == slot), (None, None)
            )
            if x is not None and path:
                y = self._fire((path, "input", visit), x)
                if y is not x:
                    args, kwargs = put_argument(args, kwargs, key, y)
            out = forward(*args, **kwargs)
            x = first_array(out)
            if x is None:
                return out
            y = self._fire((path, "output", visit), x)
            return out if y is x else put_first(out, y)

        return handler

    def _refuse_unclear_visit(self, path: str, visit: int) -> None:
        for key, site, _ in self._edits.get((path, "output", 0), []) + self._edits.get(
            (path, "input", 0), []
        ):
            if visit and site.component is None and "@" not in key:
                raise SiteError(f"{key!r} is called several times in one pass: write {key}@0, {key}@1, ...")

    def _tapped_paths(self) -> list[str]:
        unique = {self.resolver.first_path(p) for p in self.resolver.paths}
        return sorted(unique) if self._cache or self._kept is None else [p for p, *_ in self._needed]

    def _run(self) -> None:
        paths = dict.fromkeys(["", *self._tapped_paths()])
        with tapping([(self.resolver.paths[p], self._handler(p)) for p in paths]):
            self._logits = forward(self.resolver.net, self.tokens)

    def _resume(self) -> None:
        self._body = getcurrent()
        self._pass.parent = self._body
        self._pass.switch()

    # ---- what the body asks for

    def read(self, site: Site) -> Activation:
        """The array at a site: live when the pass has just reached it, a record when it has gone by.

        Raises:
            OrderError: the site is never reached in this pass, or has gone by unrecorded.
        """
        port = site.port
        if self._paused == port:
            return self._hold(site)
        if port in self._seen and port in self._order:
            hand = Hand(site.name)
            hand.open, hand.now = False, ".".join((self._paused or ("the end", ""))[:2]).strip(".")
            return self._hand(Activation.of(site.get(self._seen[port], self._base(site)), hand))
        if port in self._order:
            raise OrderError(f"{site.name} has gone by, and this trace keeps no activations (cache=False)")
        if self._state != "open":
            raise OrderError(f"{site.name} cannot be read: the trace is {self._state}")
        if site.base is not None:
            self._needed.add(site.base.port)
        self._awaited = port
        self._resume()
        if self._paused != port:
            self._awaited = None
            raise OrderError(
                f"{site.name} was never reached: the pass ended without calling it. "
                f"`model.resolver.sites()` lists what this model runs"
            )
        return self._hold(site)

    def _hold(self, site: Site) -> Activation:
        for held_site, held in self._hands:
            if held_site.view == site.view:
                return held
        x = self._seen[self._paused]
        for held_site, held in self._hands:
            x = self._settle(x, held_site, held)
        self._seen[self._paused] = x
        held = self._hand(Activation.of(site.get(x, self._base(site)), Hand(site.name)))
        self._hands.append((site, held))
        return held

    def _hand(self, x: Activation) -> Activation:
        self._handed.append(x)
        return x

    def write(self, site: Site, value: Any) -> None:
        """Put a whole array in a site's place; OrderError when the site has gone by."""
        held = self.read(site)
        held._edit()
        value = checked(value, held, site.name)
        if value is not held:
            held[...] = value

    # ---- the block

    def __enter__(self) -> Trace:
        if self._state != "new":
            raise OrderError("a trace runs once; call model.trace(...) again for another pass")
        self._needed = {site.port for site in self._kept or []}
        self._needed |= {s.base.port for s in self._kept or [] if s.base}
        for edits in self._edits.values():
            self._needed |= {site.base.port for _, site, _ in edits if site.base}
            self._needed |= {site.port for _, site, _ in edits} if self._kept is not None else set()
        if self._kept is not None:
            self._cache = False
        self._state = "open"
        if self.has_prompt:
            self._pass = greenlet(self._run)
            self._pass.gr_context = contextvars.copy_context()
        _open.set((*_open.get(), self))
        return self

    def __exit__(self, kind, error, traceback) -> None:
        _open.set(tuple(t for t in _open.get() if t is not self))
        try:
            if self.has_prompt:
                self._finish() if kind is None else self._abandon()
        except BaseException:
            self._state = "failed"
            raise
        else:
            self._state = "done" if kind is None else "failed"
        finally:
            for x in self._handed:
                x.hand.open, x.hand.done = False, True

    def _finish(self) -> None:
        if not self._pass.dead:
            try:
                self._resume()
            except BaseException:
                self._abandon()
                raise
        missed = [
            key for edits in self._edits.values() for key, site, _ in edits if site.port not in self._order
        ]
        if missed:
            raise OrderError(
                f"the intervention at {missed[0]!r} did not happen: the pass never called it. "
                f"`model.resolver.sites()` lists what this model runs"
            )
        wanted = self._kept_sites()
        keys = {(s, cache_key(Site("", p, s, visit=v))[1]): x for (p, s, v), x in self._seen.items()}
        canonical = {cache_key(site) for site in self._table().values()}
        keep = {
            k: x
            for k, x in keys.items()
            if (k[0] == "output" if wanted is None else k in wanted) or k in canonical
        }
        self._activations = ActivationCache(keep, self._table())
        settle([self._logits, *keep.values(), *self._handed])
        self._seen = {}

    def _kept_sites(self) -> set | None:
        if self._kept is None:
            return None
        return {cache_key(s) for s in self._kept} | {cache_key(s.base) for s in self._kept if s.base}

    def _table(self) -> dict[str, Site]:
        return self.resolver.table

    def _abandon(self) -> None:
        """Stop the pass where it stands; its taps are taken out on the way."""
        if self._pass is not None and not self._pass.dead and self._pass:
            self._pass.parent = getcurrent()
            self._pass.throw(GreenletExit)


def checked(value: Any, site_value: mx.array, name: str) -> mx.array:
    """A value that may stand in a site's place: same shape, cast to its dtype; EditError otherwise."""
    if not isinstance(value, mx.array):
        hint = "; return the array from the intervention" if value is None else ""
        raise EditError(
            f"{name} needs an mx.array {tuple(site_value.shape)}, not {type(value).__name__}{hint}"
        )
    if value.shape != site_value.shape:
        raise EditError(
            f"{name} has shape {tuple(site_value.shape)}, not {tuple(value.shape)}; "
            "to edit some positions write `site.output[:, position] = value`"
        )
    return fresh(value).astype(site_value.dtype)


def settle(arrays: list[mx.array]) -> None:
    """Compute now, so that a failure surfaces here; inside `mx.grad` the arrays stay symbolic."""
    try:
        mx.eval(arrays)
    except ValueError as error:
        if "transform" not in str(error):
            raise
