"""Attribution patching: what a patch would do, estimated from gradients, for all sites at once.

    found = attribute(resolver, base, source, sites, at, source_at, measure, "atp*")
    found.of(cell)                      # [rows]: the estimated change, patched - base

- "atp": `gradient . (source - base)`, in one forward pass of both runs and one forward and backward pass
  (Nanda 2023, "Attribution patching: activation patching at industrial scale").
- "atp*": queries and keys by the softmax that they would give (QK fix), and gradients with one layer's contribution
  dropped at a time (GradDrop), so that effects that cancel are seen (Kramar et al. 2024, arXiv:2403.00745, sec. 3).
- "ig": the gradient is averaged on the way from the base run's embeddings to the source run's (Hanna et al. 2024,
  arXiv:2403.17806, sec. 3).

These are estimates and nothing else: a sweep says what a patch does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx
import numpy as np

from ..anatomy.resolver import rows_first
from . import attention_fix
from .gradients import Gradients, Measure
from .runs import Cell, Rows, Site, capture

METHODS = ("atp", "atp*", "ig")
SHARES = tuple((k + 0.5) / 5 for k in range(5))  # of the way from base to source, for "ig"
HEADED = ("q", "k", "v", "pattern", "head")


@dataclass
class Attribution:
    """Estimates by site name, float64 `[rows, T of base, units]`: heads, neurons, or 1; 0 where nothing is patched.

    maps: as "atp" and "ig" have them, and as "atp*" has them before anything is dropped. base: what is measured of the
    base run, `[rows]`. drops: of "atp*", the same as maps with a layer's contribution dropped, by layer.
    """

    plain: dict[str, np.ndarray]
    base: np.ndarray
    drops: dict[str, np.ndarray] = field(
        default_factory=dict
    )  # [layers, rows, T, units], NaN in the dropped layer

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """The estimate of every unit at every position, by site name."""
        return {name: self._signed(x, self.drops.get(name)) for name, x in self.plain.items()}

    def of(self, cell: Cell) -> np.ndarray:
        """The estimated change `[rows]` of what is measured, `patched - base`, when a cell is patched."""
        total = self._summed(cell, self.plain, 0)
        dropped = self._summed(cell, self.drops, 1) if self.drops else None
        return self._signed(total, dropped)

    @staticmethod
    def _summed(cell: Cell, maps: dict[str, np.ndarray], before: int) -> Any:
        """The sum over what a cell patches; `before` axes come before the rows. A part that is dropped adds nothing."""
        parts = []
        for patch in cell.patches:
            part = maps[patch.site.name][..., list(patch.at), :]
            part = part if patch.heads is None else part[..., list(patch.heads)]
            parts.append(part.sum((-2, -1)))
        lost = np.all([np.isnan(part) for part in parts], axis=0)
        return np.where(lost, np.nan, np.nansum(parts, axis=0)) if before else np.sum(parts, axis=0)

    @staticmethod
    def _signed(plain: np.ndarray, dropped: np.ndarray | None) -> np.ndarray:
        """The mean size over the drops (sec. 3.2), with the sign of what nothing was dropped from.

        Where that is 0 the mean over the drops gives the sign.
        """
        if dropped is None:
            return plain
        kept = ~np.isnan(dropped)
        n = np.maximum(kept.sum(0), 1)
        size = np.abs(np.where(kept, dropped, 0)).sum(0) / n
        sign = np.where(plain == 0, np.sign(np.where(kept, dropped, 0).sum(0)), np.sign(plain))
        return sign * size


def attribute(
    resolver: Any,
    base: Rows,
    source: Rows,
    sites: Sequence[Site],
    at: Sequence[int],
    source_at: Sequence[int],
    measure: Measure,
    method: str = "atp",
    max_memory: int | None = None,
) -> Attribution:
    """Estimate, for every unit of some sites at every position, what patching it would do.

    Args:
        resolver: of the model.
        base, source: the run that is patched, and the run that the activations come from; or those of several prompts.
        sites: where.
        at, source_at: the positions of the base run that are patched, and of the source run that they come from.
        measure: of the last position's logits `[rows, V]`, in MLX -> `[rows]`, by row of the base run.
        method: "atp", "atp*" or "ig".
        max_memory: bytes beside the weights; None: a quarter of what is free.

    Returns:
        An `Attribution`; where either run has samples, a row for each, member after member.
    """
    both = Attributing(resolver, base, source, sites, at, source_at, method, max_memory)
    both.begin()
    return both.run(measure)


def _widened(base: Rows, block: int) -> Rows:
    """The same runs in so many equal rows: noise at no position makes rows, and changes none."""
    wide = [replace(run, noise=np.zeros((block, 0, 1))) for run in base.members]
    return wide[0] if len(wide) == 1 else type(base)(tuple(wide))


class Attributing:
    """A base and a source run whose difference is attributed: `begin` runs both plainly, `run` differentiates.

    Args: as `attribute` has them.
    """

    def __init__(
        self,
        resolver: Any,
        base: Rows,
        source: Rows,
        sites: Sequence[Site],
        at: Sequence[int],
        source_at: Sequence[int],
        method: str = "atp",
        max_memory: int | None = None,
    ):
        self.resolver, self.base, self.source, self.sites = resolver, base, source, list(sites)
        self.at, self.source_at = mx.array(list(at)), mx.array(list(source_at))
        self.method = method
        self.fixed = [s for s in sites if method == "atp*" and s.component in ("q", "k")]
        self.straight = [s for s in sites if s not in self.fixed]
        patterns = [resolver.site("pattern", s.layer) for s in self.fixed]
        self.asked = list({s.name: s for s in [*self.straight, *patterns]}.values())
        both = [resolver.site(c, s.layer) for s in self.fixed for c in ("q", "k")]
        self.seen = list({s.name: s for s in [*self.straight, *both]}.values())
        members, block = len(base.members), max(base.each, source.each)
        if method == "ig" and base.each < block:  # each sample has a way of its own
            self.base = base = _widened(base, block)
        first, own = np.arange(members)[:, None], np.arange(block)
        self.base_rows = (first * base.each + own % base.each).reshape(-1)
        self.source_rows = (first * source.each + own % source.each).reshape(-1)
        self.gradients = Gradients(resolver, base, self.asked, max_memory)

    def begin(self) -> tuple[np.ndarray, np.ndarray]:
        """Run both plainly and keep what they are attributed with; the last position's logits `[rows, V]` of both."""
        n, runs = self.base.rows, (self.base, self.source)
        if all(run.each == 1 and not run.noised and run.length == self.base.length for run in runs):
            logits, both = capture(self.resolver, runs, self.seen)
            arrays = {s.name: rows_first(self.resolver, s, both[s.name]) for s in self.seen}
            self.base_arrays = {name: x[:n] for name, x in arrays.items()}
            self.source_arrays = {name: x[n:] for name, x in arrays.items()}
            return logits[:n], logits[n:]
        base_logits, self.base_arrays = self._captured(self.base, self.base_rows)
        source_logits, self.source_arrays = self._captured(self.source, self.source_rows)
        return base_logits, source_logits

    def _captured(self, run: Rows, rows: np.ndarray) -> tuple[np.ndarray, dict[str, mx.array]]:
        logits, kept = capture(self.resolver, run, self.seen)
        return logits, {s.name: rows_first(self.resolver, s, kept[s.name])[mx.array(rows)] for s in self.seen}

    def run(self, measure: Measure) -> Attribution:
        """The estimates for one measure."""
        if self.method == "ig":
            values, found = self._along_the_way(measure)
            return Attribution(self._scores(found), values[self.base_rows])
        values, found = self.gradients.of(measure)
        plain = Attribution(self._scores(found), values[self.base_rows])
        if self.method == "atp*":
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
        layer, name = site.layer, site.component
        own = {c: self.base_arrays[f"layers.{layer}.{c}"].astype(mx.float32) for c in ("q", "k")}
        new = dict(own)
        new[name] = mx.array(own[name])
        new[name][:, self.at] = self.source_arrays[site.name][:, self.source_at].astype(mx.float32)
        attended = self.gradients.attended[site.path, site.visit]
        scores = [self._attention_scores(x["q"], x["k"], attended) for x in (own, new)]
        sinks = (
            None if attended.sinks is None else np.array(attended.sinks.astype(mx.float32), dtype=np.float64)
        )
        by = attention_fix.queries_replaced if name == "q" else attention_fix.keys_replaced
        # rows_first has put queries before heads
        done = by(*scores, np.array(gradient.astype(mx.float32), dtype=np.float64).swapaxes(1, 2), sinks)
        heads = own[name].shape[2]
        done = done.reshape(*done.shape[:2], heads, -1).sum(
            -1
        )  # of keys: over the query heads that share one
        return done[:, np.array(self.at)]

    def _attention_scores(self, q: mx.array, k: mx.array, attended: Any) -> np.ndarray:
        """Scores `[N, heads, T, T]` as the attention call has them, float64."""
        q, k = (np.array(x, dtype=np.float64).swapaxes(1, 2) for x in (q, k))
        scores = attended.scale * (q @ np.repeat(k, q.shape[1] // k.shape[1], 1).swapaxes(-1, -2))
        mask = attended.mask
        if mask is None:
            return scores
        if isinstance(mask, str):
            return np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
        if mask.dtype == mx.bool_:
            return np.where(np.array(mask), scores, -np.inf)
        return scores + np.array(mask.astype(mx.float32), dtype=np.float64)
