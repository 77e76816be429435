"""What a sweep is made of: runs, patches, cells; and one plain run, with the activations that patches need."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from ..anatomy.attention_parts import INTERNALS, LONG, attend, attending
from ..anatomy.calls import Calls, Port
from ..anatomy.recording import forward, last_logits
from ..anatomy.resolver import ModuleResolver, Site, time_axis
from ..anatomy.taps import Taps, fresh, refuse_run
from ..errors import EngineError
from .corruption import corrupt
from .protocol import Rows

FLAT = -1  # birth of a row that is there from the tokens on


@dataclass(frozen=True)
class Run:
    """One prompt as it is run: ids `[T]`, and perhaps noise (float64 `[samples, positions, width]`) on embeddings."""

    ids: tuple[int, ...]
    noise: np.ndarray | None = None
    noised: tuple[int, ...] = ()
    replace: bool = False

    @property
    def rows(self) -> int:
        return 1 if self.noise is None else len(self.noise)

    @property
    def each(self) -> int:
        """Rows of each member: there is one."""
        return self.rows

    @property
    def length(self) -> int:
        return len(self.ids)

    @property
    def members(self) -> tuple[Run, ...]:
        return (self,)

    def tokens(self, rows: np.ndarray, start: int = 0) -> mx.array:
        """The token ids `[N, T - start]` of rows."""
        return mx.array([self.ids[start:]] * len(rows))

    def embedded(self, x: mx.array, rows: np.ndarray, start: int = 0) -> mx.array:
        """The embeddings `[N, T - start, D]` of rows (row i is sample rows[i]) with this run's noise."""
        kept = [i for i, p in enumerate(self.noised) if p >= start]
        if self.noise is None or not kept:
            return x
        at = [self.noised[i] - start for i in kept]
        return corrupt(x, self.noise[rows][:, kept], at, self.replace)


@dataclass(frozen=True)
class Patch:
    """Write one site of a row at positions `at` with the source's activation at positions `source_at`.

    heads: only these heads of a site that is split by head. fixed: the value is that of the fixed run (the base run
    itself, unless another is named), not of the source. source_row: the first of the cell's rows of the source.
    """

    site: Site
    at: tuple[int, ...]
    source_at: tuple[int, ...]
    heads: tuple[int, ...] | None = None
    fixed: bool = False
    source_row: int | None = None


@dataclass(frozen=True)
class Cell:
    """One experiment of a sweep: the patches that are made together, in the rows of one of its prompts.

    prompt: which member of the sweep's runs the rows start from, and take the source's activations from.
    """

    patches: tuple[Patch, ...]
    prompt: int = 0


class Hooks(Calls):
    """What to do at which port of a pass; `hooked` runs the model with these.

    Attributes:
        at: by port, functions array -> array.
        calls: by module path and visit, what makes a call's arguments others, before its input passes.
        forwards: by module path and visit, what is called in place of the module, with the module's own call first.
    """

    def __init__(self, resolver: ModuleResolver):
        super().__init__(resolver.slots)
        self.resolver = resolver
        self.at: dict[Port, list[Callable[[mx.array], mx.array]]] = defaultdict(list)
        self.calls: dict[tuple[str, int], Callable[[tuple, dict], tuple[tuple, dict]]] = {}
        self.forwards: dict[tuple[str, int], Callable[..., Any]] = {}

    def add(self, site: Site, edit: Callable[[mx.array], mx.array]) -> None:
        self.at[site.port].append(edit)

    def add_site(self, site: Site, edit: Callable[[mx.array], mx.array | None]) -> None:
        """`edit` is given the site's array, and what it returns is put there; with None the pass goes on as it was.

        The array has a handle of its own. For a middle of the stream, or a sum, what it is added to is caught first.
        """
        bases: dict[tuple[str, str, int], mx.array] = {}  # let go as soon as they were used

        def catching(port: tuple[str, str, int]) -> Callable[[mx.array], mx.array]:
            def catch(x: mx.array) -> mx.array:
                bases[port] = fresh(x)
                return x

            return catch

        def at_port(x: mx.array) -> mx.array:
            base = site.base(lambda b: bases.pop(b.port))
            changed = edit(site.get(fresh(x), base))
            return x if changed is None else site.put(x, changed, base)

        for base in site.bases:
            self.add(base, catching(base.port))
        self.add(site, at_port)

    def call(self, path: str, visit: int, forward: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        change, instead = self.calls.get((path, visit)), self.forwards.get((path, visit))
        if change is not None:
            args, kwargs = change(args, kwargs)
        if instead is not None:
            forward = functools.partial(instead, forward)
        return super().call(path, visit, forward, args, kwargs)

    def wants(self, port: Port) -> bool:
        return port in self.at

    def passes(self, port: Port, x: mx.array) -> mx.array:
        for edit in self.at[port]:
            x = edit(x)
        return x

    def attends(self, path: str, visit: int) -> bool:
        return any((path, name, visit) in self.at for name in INTERNALS)

    def hooked(self) -> Taps:
        refuse_run(self.resolver.net, own=True)
        paths = dict.fromkeys(port[0] for port in (*self.at, *self.calls, *self.forwards))
        return self.tapping({path: self.resolver.paths[path] for path in paths})


@dataclass(frozen=True)
class Keep:
    """What of a site's array is kept: of row `row`, or some rows (None: all), and of these positions (None: of all)."""

    row: int | tuple[int, ...] | None = None
    positions: tuple[int, ...] | None = None

    def of(self, resolver: ModuleResolver, site: Site, x: mx.array) -> mx.array:
        """The kept part of a site's array, in memory of its own."""
        pattern = site.side == "pattern"  # [B, heads, T, T], by query
        positions = 2 if pattern else time_axis(resolver, site)
        if self.row is not None:
            x = mx.take(x, mx.array(np.atleast_1d(self.row)), axis=0 if pattern else positions - 1)
        if self.positions is not None and len(self.positions) < x.shape[positions]:
            x = mx.take(x, mx.array(self.positions), axis=positions)
        return x


def capture(
    resolver: ModuleResolver,
    run: Rows | tuple[Rows, ...],
    sites: Sequence[Site],
    caches: list | None = None,
    every_position: bool = False,
    keep: dict[str, Keep] | None = None,
    eager: bool = False,
    read: int = 1,
) -> tuple[np.ndarray, dict[str, mx.array]]:
    """Run a prompt plainly, or several of one length as one batch: logits, and each site's array by name.

    Arrays are `[rows, T, ...]`; logits are those of the last position, `[rows, V]`, of the last `read`, or of all
    (`[rows, T, V]`). keep: what is wanted of each site. eager: compute as the model goes: no more than a layer is held.
    """
    runs = run if isinstance(run, tuple) else (run,)
    hooks, kept = _embedding(resolver, runs), {}
    if eager:
        evaluate_by_layer(hooks)
    _keep_sites(hooks, sites, keep, kept, eager)
    if not every_position:
        slice_to_last(hooks, read)
    logits = _run_plainly(hooks, runs, caches)
    logits = logits if every_position else last_logits(logits, read)
    _all_reached(sites, kept)
    mx.eval([logits], list(kept.values()))
    return to_numpy(logits), kept


def capture_sites(
    resolver: ModuleResolver, run: Rows, sites: Sequence[Site], keep: dict[str, Keep], eager: bool = False
) -> dict[str, mx.array]:
    """Run prompts as far as the last of some sites, and keep what is wanted of their arrays: by name, as `capture`."""
    hooks, kept = _embedding(resolver, (run,)), {}
    if eager:
        evaluate_by_layer(hooks, lambda: len(kept) < len(sites))
    _keep_sites(hooks, sites, keep, kept, eager)
    slice_to_last(hooks)
    _run_plainly(hooks, (run,), None)
    _all_reached(sites, kept)
    mx.eval(list(kept.values()))
    return kept


def _embedding(resolver: ModuleResolver, runs: tuple[Rows, ...]) -> Hooks:
    """Hooks that put a run's noise on its embeddings, before anything else looks at them."""
    hooks = Hooks(resolver)
    if len(runs) == 1:
        rows = np.arange(runs[0].rows)
        hooks.add(resolver.site("embed"), lambda x: runs[0].embedded(x, rows))
    elif any(run.noised for run in runs):
        raise EngineError("runs with noise are run one at a time")
    return hooks


def _keep_sites(
    hooks: Hooks,
    sites: Sequence[Site],
    keep: dict[str, Keep] | None,
    kept: dict[str, mx.array],
    eager: bool,
) -> None:
    """Have each site's array, or the part of it that is wanted, put into `kept` when the pass reaches it."""
    resolver = hooks.resolver  # hooks that held themselves would keep the arrays alive

    def keeping(site: Site) -> Callable[[mx.array], None]:
        def note(x: mx.array) -> None:
            kept[site.name] = keep[site.name].of(resolver, site, x) if keep else x
            if eager:
                mx.eval(kept[site.name])

        return note

    for site in sites:
        hooks.add_site(site, keeping(site))


def _run_plainly(hooks: Hooks, runs: tuple[Rows, ...], caches: list | None) -> mx.array:
    tokens = [run.tokens(np.arange(run.rows)) for run in runs]
    with hooks.hooked(), attending(attend if runs[0].length >= LONG else None):
        return forward(hooks.resolver.net, mx.concatenate(tokens), caches)


def _all_reached(sites: Sequence[Site], kept: dict[str, mx.array]) -> None:
    if missing := [site.name for site in sites if site.name not in kept]:
        raise EngineError(f"the pass never reached {missing[0]}, so it cannot be patched from this run")


def evaluate_by_layer(hooks: Hooks, wanted: Callable = lambda: True, run: Callable = mx.eval) -> None:
    """Compute the stream at the input of every layer: a graph of many layers holds more at once than one layer.

    wanted: whether what follows is still needed. run: what computes it, or keeps it to be computed.
    """

    def at_layer(x: mx.array) -> mx.array:
        if wanted():
            run(x)
        return x

    info = hooks.resolver.structure
    for index, layer in enumerate(info.layers):
        if layer.slot is not None:
            hooks.add(hooks.resolver.site("resid_pre", index), at_layer)
    if info.norm is not None:
        hooks.add(norm_input(hooks.resolver), at_layer)


def slice_to_last(hooks: Hooks, read: int = 1) -> None:
    """Only the last `read` positions go through the final norm and the head, when no metric sees the others."""
    if hooks.resolver.structure.norm is not None:
        hooks.add(norm_input(hooks.resolver), lambda x: x[..., -read:, :])


def norm_input(resolver: ModuleResolver) -> Site:
    """The residual stream as the final norm is given it."""
    norm = resolver.site("norm")
    return Site("norm.input", norm.path, "input", visit=norm.visit)


def to_numpy(x: mx.array) -> np.ndarray:
    """As a float32 NumPy array (NumPy has no bfloat16)."""
    return np.array(x.astype(mx.float32))
