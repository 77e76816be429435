"""One traced forward pass, with or without a body that reads and edits it while it runs.

The pass and the body of the `with` block are two coroutines (`forward_pass.Pass`). Asking for a site resumes the
pass until that site's tap fires and hands the array over; when the body asks for the next site, or ends, the
tap returns whatever the array has become. Sites are therefore asked for in the order in which they run.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx

from ..anatomy.block import Block, leaving
from ..anatomy.calls import tidy
from ..anatomy.resolver import ModuleResolver, Site
from ..errors import InputError, OrderError
from . import open_traces
from .activation import Activation, SiteState
from .cache import ActivationCache, port_key
from .declared import Edit, check_reached, checked, declared, edit_at, names_of, unbroken
from .forward_pass import Pass, Port, compute, port_name
from .groups import Group, Groups


class Trace(Block):
    """One traced forward pass: the context manager that `model.trace(...)` gives.

    Args:
        resolver: of the model to run.
        prompt: token ids `[B, T]`, or None when only `invoke` is used.
        another: (prompt, interventions, cache) -> a further trace, for `invoke`.
        interventions: `{site name: function array -> array}`, applied whenever the site is reached, before the body
            sees it.
        cache: keep every module's activations.
        sites: keep only these.

    Raises:
        SiteError: a name matches no site, or several.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> with model.trace("The Eiffel Tower is in the city of") as trace:
        ...     before = model.layers[3].mlp.output.copy()
        ...     model.layers[3].mlp.output[:, -1] = 0.0
        >>> trace.output.shape[-1] == model.vocab_size, trace.output.shape[1] == before.shape[1]
        (True, True)
        >>> trace.activations["layers.3.mlp"][:, -1].sum().item()
        0.0
    """

    _activations: ActivationCache | None = None  # once it was asked for

    def __init__(
        self,
        resolver: ModuleResolver,
        prompt: mx.array | None,
        another: Callable[..., Trace] | None = None,
        interventions: Mapping[str, Edit] | None = None,
        cache: bool = True,
        sites: list[str] | None = None,
    ):
        self.resolver, self.net = resolver, resolver.net
        self.tokens: Any = prompt
        self._another, self._cache = another, cache
        self._kept = None if sites is None else {name: resolver.resolve(name) for name in names_of(sites)}
        self._declared = declared(resolver, {} if interventions is None else interventions)
        self.invokes: list[Trace] = []
        self._live: list[tuple[Site, Activation]] = []  # what the body was given where the pass waits
        self._given: list[Activation] = []  # all that it was given
        self._edited: list[Site] = []  # where it made an edit that has gone on
        self._pass: Pass | None = None
        self._state = "new"
        self.generators: frozenset = frozenset()  # where the block was opened

    @property
    def has_prompt(self) -> bool:
        """Whether the trace runs a pass of its own, not only those of `invoke`."""
        return self.tokens is not None

    @property
    def is_open(self) -> bool:
        """Whether the block has been entered and its end has not been reached."""
        return self._state == "open"

    @property
    def _own(self) -> Pass:
        if self._pass is None:
            raise OrderError("this trace has no pass of its own")
        return self._pass

    # ---- what a trace leaves

    @property
    def output(self) -> mx.array:
        """Logits `[B, T, V]`, edits included; OrderError before the block has ended."""
        self._need_done("output")
        return self._own.logits

    @property
    def activations(self) -> ActivationCache:
        """Every activation as it went on, edits included; OrderError before the block has ended."""
        self._need_done("activations")
        if not self._cache and self._kept is None:
            raise OrderError("this trace was made with cache=False, so it keeps no activations")
        if self._activations is None:
            self._activations = ActivationCache(self._seen, self.resolver.table)
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
        """A further prompt in the same block, as a pass of its own: `with trace.invoke(prompt) as run: ...`.

        Args:
            prompt: what `model.trace` takes, a list of prompts included.
            interventions: as those of `model.trace`, for this pass alone.

        Returns:
            A trace, with an output and activations of its own.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> with model.trace() as trace:
            ...     with trace.invoke("The Eiffel Tower is in the city of") as run:
            ...         h = model.layers[3].output.save()
            >>> run.output.shape[1] == h.shape[1]
            True
        """
        if prompt is None or self._another is None:
            raise InputError("trace.invoke(prompt) runs a prompt: there is none")
        made = self._another(prompt, interventions, self._cache)
        self.invokes.append(made)
        return made

    # ---- what the body asks for

    def read(self, site: Site) -> Activation:
        """The array at a site: live when the pass has just reached it, a record when it has gone by.

        Raises:
            OrderError: the site is never reached in this pass, or has gone by unrecorded.
        """
        if self._state != "open":
            raise OrderError(f"{site.name} cannot be read: the trace is {self._state}")
        own, port = self._own, site.port
        if own.paused == port:
            return self._live_view(site)
        if port in own.order:
            return self._record(site)
        own.needed.update(base.port for base in site.bases)
        if own.until(port) is None:
            raise OrderError(
                f"{site.name} was never reached: the pass ended without calling it. "
                "`model.resolver.sites()` lists what this model runs"
            )
        return self._live_view(site)

    def write(self, site: Site, value: Any) -> None:
        """Put a whole array, or a list of the rows' arrays, in a site's place; OrderError when it has gone by."""
        x = self.read(site)
        x.editable()
        if isinstance(value, list | tuple):  # one for each prompt, as where there are several lengths
            Groups(site.name, [Group(tuple(range(len(x))), x, x.shape[1])])[:] = value
        else:
            x[...] = checked(value, x, site.name)

    def _record(self, site: Site) -> Activation:
        own = self._own
        if site.port not in own.seen:
            raise OrderError(f"{site.name} has gone by, and this trace keeps no activations (cache=False)")
        state = SiteState(site.name, open=False, gone_to=port_name(own.paused))
        return self._give(site.get(own.seen[site.port], own.base(site)), state)

    def _live_view(self, site: Site) -> Activation:
        """The live array at the port where the pass waits, in this site's view of it."""
        for other, x in self._live:
            if other.view == site.view:
                return x
        # Another view of the same array: the earlier one is taken over as it stands, and closed.
        own, port = self._own, site.port
        own.seen[port] = self._after_waiting(own.seen[port], None, site.name)
        x = self._give(site.get(own.seen[port], own.base(site)), SiteState(site.name))
        self._live.append((site, x))
        return x

    def _give(self, x: mx.array, state: SiteState) -> Activation:
        self._given.append(Activation.of(x, state))
        return self._given[-1]

    def _after_waiting(self, x: mx.array, awaited: Port | None, now: str = "") -> mx.array:
        """The array that goes on, and the end of the body's chance to change it."""
        for site, given in self._live:
            if given.state.edited:
                value = mx.array(given).astype(x.dtype)
                x = unbroken(x, site.put(x, value, self._own.base(site)), site.name)
                self._edited.append(site)
            given.state.open, given.state.gone_to = False, now or port_name(awaited)
        self._live = []
        return x

    # ---- the block

    def __enter__(self) -> Trace:
        if self._state != "new":
            raise OrderError("a trace runs once; call model.trace(...) again for another pass")
        self.enter()
        try:
            if self.has_prompt:
                self._begin(self)
            self.generators = open_traces.generators()
            self._state = "open"
            open_traces.add(self)
        except BaseException:
            self.abandon()
            raise
        return self

    def _begin(self, block: Trace) -> None:
        """Let the pass begin, for as long as a block runs: this trace's, or that of the trace that it is part of."""
        after_waiting = weakref.WeakMethod(self._after_waiting)
        run = self._pass = Pass(self.resolver, self.tokens, self._cache and self._kept is None, after_waiting)
        sites = list((self._kept or {}).values())
        run.needed = {site.port for site in sites}
        for key, site, fn in self._declared:
            run.edits.setdefault(site.port, []).append(edit_at(key, site, fn, run.base))
            sites.append(site)
        bases = [base for site in sites for base in site.bases]
        run.needed.update(base.port for base in bases)
        only = {"", *(site.path for site in [*sites, *bases])}
        run.begin(block, None if self._kept is None else only, open_traces.refusing(block))

    def _edited_sites(self) -> list[Site]:
        """The sites of the interventions, and those that the body has edited so far."""
        declared = [site for _, site, _ in self._declared]
        return [*declared, *self._edited, *(site for site, x in self._live if x.state.edited)]

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
            for x in self._given:
                x.state.close()
            self._given, self._live, self.generators = [], [], frozenset()
            open_traces.remove(self)
            self.left = True
            tidy()

    def _finish(self) -> None:
        run = self._own
        run.until(None)
        check_reached("the intervention at", {key: site for key, site, _ in self._declared}, run.order)
        check_reached("the site", self._kept or {}, run.order)
        kept = self._to_keep(run)
        run.seen = {}
        self._seen = kept
        # patterns wait until they are read, but where all ranks of a sharded model must read them together
        now = [x for (side, _), x in kept.items() if side != "pattern" or self.resolver.group is not None]
        compute([run.logits, *now, *self._given])

    def _to_keep(self, run: Pass) -> dict[tuple[str, str], mx.array]:
        """Of what was seen: what was named, or else all outputs and whatever a canonical site is at."""
        if self._kept is not None:
            return {port_key(port): x for port, x in run.seen.items() if port in run.needed}
        if not self._cache:
            return {}
        ports = self.resolver.ports
        return {port_key(p): x for p, x in run.seen.items() if p[1] == "output" or p in ports}
