"""Some sites of two runs: their arrays, their gradients, and the scores that these make together.

part = Part(resolver, base, source, sites, at, source_at, "atp*")
part.fit(max_memory)
part.begin()                        # both runs, plainly
part.run(measure).plain             # by site name, [rows, T, units]
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx
import numpy as np

from . import attention_fix
from .batch import rows_first
from .gradients import Gradients, Measure, Pass, allowed_bytes
from .joint_runs import Runs
from .runs import Rows, Site, capture

__all__ = ["Measure", "Part", "Rows", "Scores", "Site", "allowed_bytes"]
SHARES = tuple((k + 0.5) / 5 for k in range(5))  # of the way from base to source, for "ig"
HEADED = ("q", "k", "v", "pattern", "head")


@dataclass
class Scores:
    """What a part comes to; see `Attribution`."""

    plain: dict[str, np.ndarray]
    base: np.ndarray
    drops: dict[str, np.ndarray] = field(default_factory=dict)
    passes: int = 1
    bytes: int = 0


def _widened(base: Rows, block: int) -> Rows:
    """The same runs in so many equal rows: noise at no position makes rows, and changes none."""
    wide = tuple(replace(run, noise=np.zeros((block, 0, 1))) for run in base.members)
    return wide[0] if len(wide) == 1 else Runs(wide)


class Part:
    """Some sites whose arrays are in memory at the same time."""

    gradients: Gradients  # once it is known to fit

    def __init__(
        self,
        resolver: Any,
        base: Rows,
        source: Rows,
        sites: list[Site],
        at: Sequence[int],
        source_at: Sequence[int],
        method: str,
        read: int = 1,
    ):
        self.read = read
        members, block = len(base.members), max(base.each, source.each)
        if method == "ig" and base.each < block:  # each sample has a way of its own
            base = _widened(base, block)
        self.resolver, self.base, self.source, self.sites = resolver, base, source, sites
        self.at, self.source_at, self.method = mx.array(list(at)), mx.array(list(source_at)), method
        self.fixed = [s for s in sites if method == "atp*" and s.component in ("q", "k")]
        self.straight = [s for s in sites if s not in self.fixed]
        patterns = [resolver.site("pattern", s.layer) for s in self.fixed]
        self.asked = list({s.name: s for s in [*self.straight, *patterns]}.values())
        both = [resolver.site(c, s.layer) for s in self.fixed for c in ("q", "k")]
        self.seen = list({s.name: s for s in [*self.straight, *both]}.values())
        first, own = np.arange(members)[:, None], np.arange(block)
        self.base_rows = (first * base.each + own % base.each).reshape(-1)
        self.source_rows = (first * source.each + own % source.each).reshape(-1)

    @functools.cached_property
    def kept(self) -> int:
        """Bytes of the arrays of both runs, of zeros and gradients, and of what is computed from them."""
        zeros, _ = Pass(
            self.resolver, self.base, np.arange(self.base.rows), [*self.asked, *self.seen]
        ).zeros()
        wider = 2 + self.source.rows * self.source.length / (self.base.rows * self.base.length)
        arrays = sum(zeros[s.name].nbytes for s in self.seen) * wider
        gradients = sum(zeros[s.name].nbytes for s in self.asked) * (3 if self.method == "ig" else 2)
        if (
            self.method == "atp*"
        ):  # a float for every layer that is dropped; scores in float64, one site at a time
            units = sum(zeros[s.name][..., 0].size for s in self.straight if s.component != "neuron")
            units += sum(zeros[s.name].size for s in self.sites if s.component == "neuron")
            gradients += 4 * self.resolver.n_layers * units
            patterns = [zeros[s.name].size for s in self.asked if s.component == "pattern"]
            gradients += 16 * 8 * max(patterns, default=0)
        return int(arrays + gradients)

    def fit(self, max_memory: int | None) -> None:
        """Have the passes ready; InputError when they do not fit."""
        self.gradients = Gradients(self.resolver, self.base, self.asked, max_memory, self.kept, self.read)

    def let_go(self) -> None:
        """Keep no array of either run."""
        self.base_arrays: dict[str, mx.array] = {}
        self.source_arrays: dict[str, mx.array] = {}

    def begin(self) -> tuple[np.ndarray, np.ndarray]:
        """Run both plainly and keep what they are attributed with; the logits of both that are read."""
        n, runs = self.base.rows, (self.base, self.source)
        if all(run.each == 1 and not run.noised and run.length == self.base.length for run in runs):
            logits, both = capture(self.resolver, runs, self.seen, read=self.read)
            arrays = {s.name: rows_first(self.resolver, s, both[s.name]) for s in self.seen}
            self.base_arrays = {name: x[:n] for name, x in arrays.items()}
            self.source_arrays = {name: x[n:] for name, x in arrays.items()}
            return logits[:n], logits[n:]
        base_logits, self.base_arrays = self._captured(self.base, self.base_rows)
        source_logits, self.source_arrays = self._captured(self.source, self.source_rows)
        return base_logits, source_logits

    def _captured(self, run: Rows, rows: np.ndarray) -> tuple[np.ndarray, dict[str, mx.array]]:
        logits, kept = capture(self.resolver, run, self.seen, read=self.read)
        return logits, {s.name: rows_first(self.resolver, s, kept[s.name])[mx.array(rows)] for s in self.seen}

    def run(self, measure: Measure) -> Scores:
        """The estimates for one measure."""
        if self.method == "ig":
            values, found = self._along_the_way(measure)
            return Scores(
                self._scores(found), values[self.base_rows], passes=len(SHARES), bytes=self.gradients.bytes
            )
        values, found = self.gradients.of(measure)
        plain = Scores(self._scores(found), values[self.base_rows], bytes=self.gradients.bytes)
        if self.method == "atp*":
            plain.passes += self.resolver.n_layers
            dropped = [self._dropped(measure, layer) for layer in range(self.resolver.n_layers)]
            plain.drops = {name: np.stack([one[name] for one in dropped]) for name in plain.plain}
        return plain

    def _change(self, name: str) -> mx.array:
        """What a patch adds `[N, positions, ...]`, float32."""
        theirs = self.source_arrays[name][:, self.source_at].astype(mx.float32)
        return theirs - self.base_arrays[name][:, self.at].astype(mx.float32)

    # ---- gradients

    def _along_the_way(self, measure: Measure) -> tuple[np.ndarray, dict[str, mx.array]]:
        """The base run's values, and the gradients averaged on the way to the source run's embeddings."""
        total: dict[str, mx.array] = {}
        for share in SHARES:
            _, found = self.gradients.of(measure, share, self.source, (self.at, self.source_at))
            for name, x in found.items():
                total[name] = x.astype(mx.float32) / len(SHARES) + total.get(name, 0)
            mx.eval(total)
        return self.gradients.values(measure), total

    def _dropped(self, measure: Measure, layer: int) -> dict[str, np.ndarray]:
        """The scores with a layer's contribution dropped, float32; NaN for what is in that layer."""
        _, found = self.gradients.of(measure, dropped=layer)
        scores = {name: x.astype(np.float32) for name, x in self._scores(found).items()}
        for site in self.sites:
            if site.layer == layer and site.component not in ("resid_pre", "resid_post"):
                scores[site.name][:] = np.nan
        return scores

    # ---- scores

    def _scores(self, gradients: dict[str, mx.array]) -> dict[str, np.ndarray]:
        """The estimate of every unit, by site name, `[N, T, units]`."""
        rows = {
            s.name: rows_first(self.resolver, s, gradients[s.name])[mx.array(self.base_rows)]
            for s in self.asked
        }
        found = {s.name: self._straight(s, rows[s.name]) for s in self.straight}
        mx.eval(found)
        done = {name: np.array(x, dtype=np.float64) for name, x in found.items()}
        done.update({s.name: self._fixed(s, rows[f"layers.{s.layer}.pattern"]) for s in self.fixed})
        return {name: self._placed(x) for name, x in done.items()}

    def _straight(self, site: Site, gradient: mx.array) -> mx.array:
        """`gradient . change` `[N, positions, units]`."""
        products = gradient[:, self.at].astype(mx.float32) * self._change(site.name)
        if site.component == "neuron":
            return products
        units = products.shape[2] if site.component in HEADED else 1
        return products.reshape(*products.shape[:2], units, -1).sum(-1)

    def _placed(self, values: np.ndarray) -> np.ndarray:
        """Values at the patched positions, among all of the base run's."""
        found = np.zeros((len(values), self.base.length, values.shape[-1]))
        found[:, np.array(self.at)] = values
        return found

    def _fixed(self, site: Site, gradient: mx.array) -> np.ndarray:
        """What queries or keys do through the softmax that they would give, `[N, positions, heads]`."""
        layer, name = site.layer, str(site.component)
        own = {c: self.base_arrays[f"layers.{layer}.{c}"].astype(mx.float32) for c in ("q", "k")}
        new = dict(own)
        new[name] = mx.array(own[name])
        new[name][:, self.at] = self.source_arrays[site.name][:, self.source_at].astype(mx.float32)
        attended = self.gradients.attended[site.path, site.visit]
        before, after = (self._attention_scores(x["q"], x["k"], attended) for x in (own, new))
        sinks = None if attended.sinks is None else _float64(attended.sinks)
        by_query = _float64(gradient).swapaxes(1, 2)  # rows_first has put queries before heads
        replaced = attention_fix.queries_replaced if name == "q" else attention_fix.keys_replaced
        done = replaced(before, after, by_query, sinks)
        shared = done.reshape(*done.shape[:2], own[name].shape[2], -1)  # query heads that share a key
        return shared.sum(-1)[:, np.array(self.at)]

    def _attention_scores(self, q: mx.array, k: mx.array, attended: Any) -> np.ndarray:
        """Scores `[N, heads, T, T]` as the attention call has them, float64."""
        queries, keys = (_float64(x).swapaxes(1, 2) for x in (q, k))
        keys = np.repeat(keys, queries.shape[1] // keys.shape[1], 1)
        scores = attended.scale * (queries @ keys.swapaxes(-1, -2))
        mask = attended.mask
        if mask is None:
            return scores
        if isinstance(mask, str):
            return np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
        if mask.dtype == mx.bool_:
            return np.where(np.array(mask), scores, -np.inf)
        return scores + _float64(mask)


def _float64(x: mx.array) -> np.ndarray:
    return np.array(x.astype(mx.float32), dtype=np.float64)
