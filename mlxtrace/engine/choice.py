"""Which engine a model takes: found by running a small sweep on it every way, and remembered.

- fanout: rows are born at the layer where they first differ (see `batch`);
- flat: all rows from the tokens on, where a model keeps state beside the residual stream;
- loop: one traced pass per cell, which the others are held against.
"""

from __future__ import annotations

import functools

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache, make_prompt_cache

from ..anatomy.architecture_exceptions import exceptional
from ..anatomy.recording import forward
from ..anatomy.resolver import ModuleResolver
from ..errors import EngineError, InputError, UnsupportedError, closest
from . import calibration
from .batch import FEWEST_SHARED
from .differences import side_axes
from .runs import Cell, Patch, Run, to_numpy
from .sweep import Engine, Sweep

ENGINES = ("auto", "fanout", "flat", "loop")


def choose(resolver: ModuleResolver, engine: str = "auto") -> Engine:
    """The engine by name, or the fastest that gives the loop's numbers on this model.

    Raises InputError for an unknown name, EngineError when the one asked for is wrong on this model.
    """
    if not isinstance(engine, str) or engine not in ENGINES:
        raise InputError(f"engine {engine!r} is unknown; {closest(str(engine), ENGINES)}")
    trial = trial_sweep(resolver)
    if engine == "loop":
        return Engine("loop", causal=False, why="asked for")
    if engine != "auto":
        reason = trial.wrong(engine)
        if reason:
            raise EngineError(f"engine={engine!r} is not right on this model: {reason}; use engine='auto'")
        return trial.engine(engine, "asked for")
    reasons = []
    for name in ("fanout", "flat"):
        reason = trial.wrong(name)
        if not reason:
            return trial.engine(name, "; ".join(reasons))
        reasons.append(f"{name} is not right here: {reason}")
    return Engine("loop", causal=False, why="; ".join(reasons))


class TrialSweep:
    """A small sweep on a model: two prompts of 8 tokens, a few cells of every component that it has."""

    def __init__(self, resolver: ModuleResolver):
        self.resolver = resolver
        ids = calibration.short_ids(resolver)
        changed = tuple((i + 1) % resolver.structure.vocab_size for i in ids[2:4])
        self.base, self.source = Run(ids), Run((*ids[:2], *changed, *ids[4:]))
        self.causal = self._is_causal()
        self.axes = side_axes(resolver)
        self._reasons: dict[str, str] = {}

    def _is_causal(self) -> bool:
        """Whether the two prompts, alike in their first two tokens, are alike there in every logit."""
        runs = (self.base, self.source)
        a, b = (to_numpy(forward(self.resolver.net, mx.array([r.ids]))[:, :2]) for r in runs)
        return not calibration.beyond_rounding(self.resolver, b, a)

    def _cells(self) -> list[Cell]:
        n, last = self.resolver.n_layers, len(self.base.ids) - 1
        places = [("resid_pre", 2), ("attn", 3), ("mlp", 2), ("resid_post", 3), ("resid_post", last)]
        cells = []
        for layer in sorted({0, n // 2, n - 1}):
            for component, at in places:
                try:
                    site = self.resolver.site(component, layer)
                except UnsupportedError:
                    continue
                cells.append(Cell((Patch(site, (at,), (at,)),)))
        if len(cells) > 5:
            cells.append(Cell((*cells[2].patches, *cells[-3].patches)))
        return cells

    def engine(self, name: str, why: str = "") -> Engine:
        """An engine with what was found out about this model."""
        prefix = name == "fanout" and self.shares_prefix()
        return Engine(name, prefix, self.causal, self.axes if name == "fanout" else {}, why, self._merges)

    def _merges(self, shared: int, ran: int) -> bool:
        """Whether a prefix is attended to once for all rows: where it is faster, and right on this model."""
        if calibration.more_than_masks(self.resolver)[
            0
        ]:  # attention with a mask for each head is not taken apart
            return False
        return shared >= max(FEWEST_SHARED, ran // 2) and not self.merged_wrong()

    def merged_wrong(self) -> str:
        """Why a sweep whose rows attend to their prefix once is not right on this model; '' when it is."""
        if "merged" not in self._reasons:
            engine = Engine("fanout", True, self.causal, self.axes, merges=lambda shared, ran: True)
            self._reasons["merged"] = self._wrong(engine)
        return self._reasons["merged"]

    def wrong(self, name: str) -> str:
        """Why an engine is not right on this model; '' when it is."""
        if name not in self._reasons:
            self._reasons[name] = self._wrong(Engine(name, False, self.causal, self.axes))
        return self._reasons[name]

    def shares_prefix(self) -> bool:
        """Whether all caches are plain keys and values, and a sweep that shares them is right."""
        return not self.has_no_prefix() and not self.prefix_wrong()  # in this order: the second runs a sweep

    def has_no_prefix(self) -> str:
        """Why this architecture has no prefix that rows could share; '' when it has one."""
        return self._no_prefix

    @functools.cached_property
    def _no_prefix(self) -> str:
        if not self.causal:
            return "this model is not causal"
        if exceptional(self.resolver.net).needs_cache:
            return "every pass of this model fills a cache of its own"
        caches = make_prompt_cache(self.resolver.net)
        kinds = {type(cache).__name__ for cache in caches} - {KVCache.__name__}
        if kinds:
            return f"its caches are not plain keys and values but {', '.join(sorted(kinds))}"
        mx.eval(forward(self.resolver.net, mx.array([self.base.ids]), caches))
        empty = all(cache.keys is None for cache in caches)
        return "it leaves the caches that it is given empty" if empty else ""

    def prefix_wrong(self) -> str:
        """Why a sweep that shares a prefix is not right on this model; '' when it is."""
        if "prefix" not in self._reasons:
            self._reasons["prefix"] = self._wrong(Engine("fanout", True, self.causal, self.axes))
        return self._reasons["prefix"]

    def _wrong(self, engine: Engine) -> str:
        try:
            with calibration.timed_once(self.resolver):
                found = self._sweep(engine)
                right = self._by_loop
        except Exception as error:  # a model that cannot be run this way may fail in any way
            return f"{type(error).__name__}: {str(error)[:160]}"
        off = calibration.beyond_rounding(self.resolver, found, right)
        return off and f"logits differ from the loop's by {off}"

    @functools.cached_property
    def _by_loop(self) -> np.ndarray:
        return self._sweep(Engine("loop", causal=False))

    def _sweep(self, engine: Engine) -> np.ndarray:
        sweep = Sweep(self.resolver, self.base, self.source, self._cells(), engine, 1 << 62)
        return sweep.run(lambda logits: logits.T.astype(np.float64), progress=False).values


@calibration.per_model
def trial_sweep(resolver: ModuleResolver) -> TrialSweep:
    """The small sweep of a model, made once."""
    return TrialSweep(resolver)
