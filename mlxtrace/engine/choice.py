"""Which engine a model takes: found by running a small sweep on it every way, and remembered.

- fanout: rows are born at the layer where they first differ (see `batch`);
- flat: all rows from the tokens on, where a model keeps state beside the residual stream;
- loop: one traced pass per cell, the textbook.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache, make_prompt_cache

from ..anatomy.architecture_exceptions import exceptional
from ..anatomy.recording import forward, probe_tokens
from ..anatomy.resolver import ModuleResolver
from ..errors import EngineError, InputError, UnsupportedError, closest
from . import calibration
from .differences import side_axes
from .runs import Cell, Patch, Run, to_numpy
from .sweep import Engine, Sweep

ENGINES = ("auto", "fanout", "flat", "loop")


def choose(resolver: ModuleResolver, engine: str = "auto") -> Engine:
    """The engine by name, or the fastest that gives the textbook's numbers on this model.

    Raises InputError for an unknown name, EngineError when the one asked for is wrong on this model.
    """
    if not isinstance(engine, str) or engine not in ENGINES:
        raise InputError(f"engine {engine!r} is unknown; {closest(str(engine), ENGINES)}")
    probe = calibration.once(resolver, "probe", lambda: Probe(resolver))
    if engine == "loop":
        return Engine("loop", causal=False, why="asked for")
    if engine != "auto":
        reason = probe.wrong(engine)
        if reason:
            raise EngineError(f"engine={engine!r} is not right on this model: {reason}; use engine='auto'")
        return probe.engine(engine, "asked for")
    reasons = []
    for name in ("fanout", "flat"):
        reason = probe.wrong(name)
        if not reason:
            return probe.engine(name, "; ".join(reasons))
        reasons.append(f"{name} is not right here: {reason}")
    return Engine("loop", causal=False, why="; ".join(reasons))


class Probe:
    """A small sweep on a model: two prompts of 8 tokens, a few cells of every component that it has."""

    def __init__(self, resolver: ModuleResolver):
        self.resolver = resolver
        ids = probe_tokens(resolver.structure.vocab_size)[0].tolist()
        other = [*ids[:2], *((i + 1) % resolver.structure.vocab_size for i in ids[2:4]), *ids[4:]]
        self.base, self.source = Run(tuple(ids)), Run(tuple(other))
        self.causal = self._is_causal()
        self.axes = side_axes(resolver)
        self._results: dict[str, np.ndarray | str] = {}

    def _is_causal(self) -> bool:
        """Whether the two prompts, alike in their first two tokens, are alike there in every logit."""
        runs = (self.base, self.source)
        a, b = (to_numpy(forward(self.resolver.net, mx.array([r.ids]))[:, :2]) for r in runs)
        return calibration.apart(a, b) <= calibration.rounding(self.resolver) * calibration.largest(a)

    def _cells(self) -> list[Cell]:
        n, last = self.resolver.n_layers, len(self.base.ids) - 1
        cells = []
        for layer in sorted({0, n // 2, n - 1}):
            for component, at in (
                ("resid_pre", 2),
                ("attn", 3),
                ("mlp", 2),
                ("resid_post", 3),
                ("resid_post", last),
            ):
                try:
                    site = self.resolver.site(component, layer)
                except UnsupportedError:
                    continue
                cells.append(Cell((Patch(site, (at,), (at,)),)))
        if len(cells) > 5:
            cells.append(Cell((*cells[2].patches, *cells[-3].patches)))
        return cells

    def engine(self, name: str, why: str = "") -> Engine:
        prefix = name == "fanout" and self.shares_prefix()
        return Engine(name, prefix, self.causal, self.axes if name == "fanout" else {}, why)

    def wrong(self, name: str) -> str:
        """Why an engine is not right on this model; '' when it is."""
        return calibration.once(
            self.resolver, name, lambda: self._wrong(Engine(name, False, self.causal, self.axes))
        )

    def shares_prefix(self) -> bool:
        """Whether all caches are plain keys and values, and a sweep that shares them is right."""
        return not self.has_no_prefix() and not self.prefix_wrong()  # in this order: the second runs a sweep

    def has_no_prefix(self) -> str:
        """Why this architecture has no prefix that rows could share; '' when it has one."""
        return calibration.once(self.resolver, "no prefix", self._has_no_prefix)

    def _has_no_prefix(self) -> str:
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
        return calibration.once(
            self.resolver, "prefix", lambda: self._wrong(Engine("fanout", True, self.causal, self.axes))
        )

    def _wrong(self, engine: Engine) -> str:
        try:
            found = self._sweep(engine)
            right = calibration.once(
                self.resolver, "textbook", lambda: self._sweep(Engine("loop", causal=False))
            )
        except Exception as error:  # a model that cannot be run this way may fail in any way
            return f"{type(error).__name__}: {str(error)[:160]}"
        off = calibration.apart(found, right)
        limit = calibration.rounding(self.resolver) * calibration.largest(right)
        return (
            "" if off <= limit else f"logits differ from the textbook's by {off:.3g}, rounding is {limit:.3g}"
        )

    def _sweep(self, engine: Engine) -> np.ndarray:
        sweep = Sweep(self.resolver, self.base, self.source, self._cells(), engine, 1 << 62)
        return sweep.run(lambda logits: logits.T.astype(np.float64), progress=False).values
