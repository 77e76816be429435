"""What the laws are measured on: two short prompts, the runs of one model on them, and a sweep in every engine."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from ..anatomy.architecture_exceptions import exceptional
from ..anatomy.components import COMPONENTS, HEADED
from ..anatomy.recording import Call, forward, record
from ..anatomy.resolver import Site
from ..engine import calibration, choice
from ..engine.runs import Cell, Patch, Run, to_numpy
from ..engine.sweep import Outcome, Sweep
from ..errors import UnsupportedError
from ..forward.trace import Trace
from . import rounding
from .by_hand import Hand, Place

if TYPE_CHECKING:
    from ..model import InterpretableModel

LENGTH = 10
DIFFERENT = (2, 3)  # the positions at which the two prompts differ
MAIN = ("resid_pre", "attn", "mlp", "resid_post")


class NotHere(Exception):
    """The law does not apply to this model, and why."""


class AboveTheCap(Exception):
    """The model's own movement is larger than any tolerance may be, so the law can say nothing."""


@dataclass(frozen=True)
class Found:
    """The largest error that was measured, how much is allowed, and what is worth saying."""

    error: float
    tolerance: float
    note: str = ""


def off(a: mx.array, b: mx.array) -> float:
    """The largest difference, relative to the largest value of `b`; infinite where shapes differ or a NaN is."""
    if a.shape != b.shape:
        return float("inf")
    return relative(to_numpy(a), to_numpy(b))


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """The same of NumPy arrays; tokens that a model rules out (-inf in both) are alike."""
    scale = np.abs(b).max(where=np.isfinite(b), initial=1e-12)
    error = calibration.apart(a, b) / float(scale)
    return error if error == error else float("inf")


class Trial:
    """Two short prompts that differ in two tokens, and the runs of a model on them that the laws share."""

    def __init__(self, model: InterpretableModel):
        self.model, self.resolver, self.net = model, model.resolver, model.net
        vocab, n = model.vocab_size, model.n_layers
        ids = [(3 + 7 * i) % vocab for i in range(LENGTH)]
        self.ids = tuple(ids)
        self.other = tuple((t + vocab // 2) % vocab if i in DIFFERENT else t for i, t in enumerate(ids))
        self.everywhere = range(n)
        kinds: dict[tuple[str, ...], list[int]] = {}  # layers by what they have
        for i in self.everywhere:
            has = tuple(c for c in COMPONENTS if f"layers.{i}.{c}" in self.resolver.table)
            kinds.setdefault(has, []).append(i)
        self.middles = {layers[len(layers) // 2] for layers in kinds.values()}
        self.layers = sorted({0, n - 1} | self.middles)

    def plain(self, ids: Iterable[int]) -> mx.array:
        """Logits `[1, T, V]` of the model by itself."""
        logits = forward(self.net, mx.array([list(ids)]))
        mx.eval(logits)
        return logits

    def traced(self, edits: dict[str, mx.array] | None = None, sites: list[str] | None = None) -> Trace:
        """A trace of `ids` with whole sites replaced."""
        fns = {name: lambda _, value=value: value for name, value in (edits or {}).items()}
        with Trace(self.resolver, mx.array([self.ids]), None, fns, cache=False, sites=sites) as trace:
            pass
        return trace

    def _recorded(self, ids: tuple[int, ...]) -> Trace:
        with Trace(self.resolver, mx.array([ids]), None) as trace:
            pass
        return trace

    @functools.cached_property
    def base(self) -> Trace:
        """The trace of `ids`, with all activations."""
        return self._recorded(self.ids)

    @functools.cached_property
    def source(self) -> Trace:
        """The trace of `other`, with all activations."""
        return self._recorded(self.other)

    @functools.cached_property
    def limit(self) -> float:
        """What a law allows, relative to the largest value: what rounding does in this model's precision, or ten times
        what its own logits move with the batch, but never more than the cap; AboveTheCap when they move more.
        """
        if self.floor.most > self.cap:
            raise AboveTheCap(f"{self.said_floor}; the most that any law may allow is {self.cap:.1g}")
        return min(self.cap, max(self.least, rounding.TIMES * self.floor.most))

    @functools.cached_property
    def floor(self) -> rounding.Floor:
        return rounding.measure(self.net, self.model.vocab_size)

    @property
    def least(self) -> float:
        """What rounding may do in any model of this precision."""
        return self._by_precision(calibration.ROUNDING)

    @property
    def cap(self) -> float:
        """The most that a law may allow in this precision, however much the model itself moves."""
        return self._by_precision(calibration.CAPS)

    def _by_precision(self, table: dict) -> float:
        return table.get(calibration.compute_dtype(self.resolver), table[mx.bfloat16])

    @property
    def said_floor(self) -> str:
        return f"this model's own logits move by up to {self.floor.most:.2g} with the rows beside them and their order"

    @functools.cached_property
    def probe(self) -> choice.Probe:
        return calibration.once(self.resolver, "probe", lambda: choice.Probe(self.resolver))

    def has(self, *components: str, layers: Iterable[int] | None = None) -> list[int]:
        """The layers that have all of the components; NotHere with the resolver's reason if none has."""
        found, table = [], self.resolver.table
        for layer in self.layers if layers is None else layers:
            if all(f"layers.{layer}.{c}" in table for c in components):
                found.append(layer)
        if not found:
            self._explain(components)
        return found

    def _explain(self, components: tuple[str, ...]) -> None:
        for component in components:
            try:
                self.resolver.site(component, self.layers[0])
            except UnsupportedError as error:
                raise NotHere(str(error).split(": ", 1)[-1]) from error
        raise NotHere(f"no layer has {' and '.join(components)}")

    @functools.cached_property
    def beside(self) -> str:
        """How state may reach later layers beside the stream, as far as the layers' calls show it; '' if not."""
        calls = [c for c in record(self.net, mx.array([self.ids])) if self._is_layer(c)]
        if self.probe.axes:
            return "layers are given more than the stream (per-layer inputs, keys, values)"
        if any(isinstance(c.output, (tuple, list)) and len(c.output) > 1 for c in calls):
            return "layers return more than the stream"
        for value in (v for c in calls for v in (*c.args, *c.kwargs.values())):
            if isinstance(value, dict) or type(value).__module__ == type(self.net).__module__:
                return f"layers share a {type(value).__name__}"
        return self._shared_caches()

    def _is_layer(self, call: Call) -> bool:
        return any(
            (info.path, info.visit) == (call.path, call.visit) for info in self.resolver.structure.layers
        )

    def _shared_caches(self) -> str:
        needs = exceptional(self.net).needs_cache
        return "keys and values are shared between layers through the cache" if needs else ""

    # ---- by hand

    @functools.cached_property
    def hand(self) -> Hand:
        """The model to be run by hand; of the resolver only the positions of modules are taken."""
        sites = [site for site in self.resolver.table.values() if site.layer is not None]
        places = {(s.component, s.layer): Place(s.path, s.visit, s.slot, s.heads) for s in sites}
        cached = bool(exceptional(self.net).needs_cache)
        return Hand(self.net, places, self.resolver.structure.embed, cached)

    @functools.cached_property
    def projected_as_is(self) -> set[int]:
        """The layers whose output projection is given, number by number, what their attention call returned."""
        layers = [i for i in self.everywhere if {("pattern", i), ("head", i)} <= self.hand.places.keys()]
        return {i for i in layers if self.hand.projects_attention(i, self.ids)}

    # ---- sweeps

    @functools.cached_property
    def cells(self) -> dict[tuple, Cell]:
        """Every component at a layer of each kind, the main ones at a few more; all heads and the mixers' outputs;
        places that cannot matter.
        """
        cells, table = {}, self.resolver.table
        after = tuple(range(DIFFERENT[0], LENGTH))
        for layer in self.layers:
            for component in COMPONENTS if layer in self.middles else MAIN:
                if (site := table.get(f"layers.{layer}.{component}")) is None:
                    continue
                heads = (0,) if component in HEADED else None
                cells[component, layer] = _cell(site, (3, 6), heads)
            if layer in self.middles and (head := table.get(f"layers.{layer}.head")) is not None:
                cells["all heads", layer] = _cell(head, after, tuple(range(head.heads)))
                cells["mixer", layer] = _cell(table[f"layers.{layer}.attn"], after)
        for place in ("resid_post", "attn", "mlp"):
            for layer in [x for x in self.layers if f"layers.{x}.{place}" in table][:1]:
                cells["before", place] = _cell(table[f"layers.{layer}.{place}"], (0, 1))
        windows = [c.patches[0] for (name, _), c in cells.items() if name in ("attn", "mlp")]
        if windows:
            cells["window", 0] = Cell(tuple(windows))
        return cells

    def swept(self, engine: choice.Engine, share: float | None = None) -> tuple[np.ndarray, Outcome]:
        """Last-position logits `[cells, V]` of all cells by an engine, and all that the sweep returned.

        share: of the memory that it would like to have.
        """
        runs = Run(self.ids), Run(self.other)
        sweep = Sweep(self.resolver, *runs, list(self.cells.values()), engine)
        if share is not None:
            sweep.max_memory = int(sweep.plan().bytes * share)
        outcome = sweep.run(lambda logits: logits.T.astype(np.float64), progress=False)
        return outcome.values[:, :, 0].T, outcome

    @functools.cached_property
    def textbook(self) -> dict[tuple, np.ndarray]:
        """Last-position logits `[V]` of every cell, each in a traced pass of its own."""
        return dict(zip(self.cells, self.swept(choice.Engine("loop", causal=False))[0], strict=True))

    @functools.cached_property
    def fast(self) -> tuple[np.ndarray, Outcome]:
        """The same, by the engine that this model takes."""
        return self.swept(choice.choose(self.resolver))

    def against_the_textbook(self, rows: np.ndarray) -> Found:
        """The largest error of a sweep's rows, and in which cell it is."""
        if not self.cells:
            raise NotHere("this model has no site to patch")
        right = np.stack(list(self.textbook.values()))
        errors = [relative(a, b) for a, b in zip(rows, right, strict=True)]
        worst = " at layer ".join(map(str, list(self.cells)[int(np.argmax(errors))]))
        return Found(max(errors), self.limit, "" if max(errors) <= self.limit else f"worst: {worst}")


def _cell(site: Site, at: tuple[int, ...], heads: tuple[int, ...] | None = None) -> Cell:
    return Cell((Patch(site, at, at, heads),))
