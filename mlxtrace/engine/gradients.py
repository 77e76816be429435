"""Gradients of a measure for the arrays at some sites, in one forward and one backward pass.

    values, found = gradients(resolver, Run(ids), [resolver.site("mlp", 3)], lambda logits: logits[:, 12])
    found["layers.3.mlp"]               # [rows, T, D]: what a small change there does to the measure

They are first held against finite differences of the model's own forward pass, once per model (`gradient_check`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import InputError, memory_limit
from .batch import time_axis
from .gradient_check import checked_way
from .gradient_memory import can_checkpoint, pass_bytes
from .gradient_pass import Measure, Pass, Rows, Site, replace
from .gradient_pass import UnsupportedError as UnsupportedError
from .memory import allowed_bytes
from .runs import Keep, capture_sites

__all__ = ["Gradients", "Measure", "Pass", "allowed_bytes", "gradients"]


def gradients(
    resolver: Any,
    base: Rows,
    sites: Sequence[Site],
    measure: Measure,
    share: float = 0.0,
    source: Rows | None = None,
) -> tuple[np.ndarray, dict[str, mx.array]]:
    """What is measured of a run, and by site name its gradient for the array there, shaped as the site's array.

    A zero is added at each site, and `measure(logits) -> [rows]` of the last position's logits `[rows, V]` (float32)
    is summed over the rows and differentiated: rows do not see each other, so each row's gradient is its own.

    Args:
        resolver: of the model.
        base: the run, or runs, that is differentiated.
        sites: where.
        measure: a function of MLX arrays that has a gradient.
        share: how far the embeddings go from those of base towards those of source: 0 is the base run itself.
        source: the run, of the same length and rows (or of one row), whose embeddings are gone to.

    Returns:
        The measured values `[rows]`, float64, and by site name the gradient.

    Raises:
        UnsupportedError: the gradient at one of the sites is not what the forward pass does, or does not exist.
    """
    return Gradients(resolver, base, sites).of(measure, share, source)


class Gradients:
    """The passes that differentiate some runs at some sites, within the memory that is allowed.

    Args:
        resolver: of the model.
        base: the runs. sites: where.
        max_memory: bytes beside the weights; None: a quarter of what is free.
        kept: bytes of these that are taken by all else, zeros and gradients included; 0: by those alone.
        read: of how many of the last positions what is measured gets logits; of more than one `[rows, read, V]`.

    Attributes:
        zeros: by site name, a zero of the site's shape.
        attended: by module path and visit, what each attention call is given: scale, mask, sinks.
        bytes: the estimated peak of a pass, with what it gives.

    Raises:
        UnsupportedError: this model has no gradients to trust. InputError: a row of it does not fit the memory.
    """

    def __init__(
        self,
        resolver: Any,
        base: Rows,
        sites: Sequence[Site],
        max_memory: int | None = None,
        kept: int = 0,
        read: int = 1,
    ):
        self.resolver, self.base, self.sites = resolver, base, list(sites)
        self.one = Pass(resolver, base, np.arange(base.rows), self.sites, checked_way(resolver), read=read)
        self.zeros, self.attended = self.one.zeros()
        allowed = allowed_bytes(max_memory, resolver.group)
        kept = kept or 2 * sum(x.nbytes for x in self.zeros.values())
        self.rows = self._fit(allowed, kept)

    def _fit(self, allowed: int, kept: int) -> list[np.ndarray]:
        """The rows by pass: all at once, with layers computed again when that is too much, else fewer and fewer."""
        rows, ways = self.base.rows, [self.one.way]
        if can_checkpoint(self.resolver, self.one.way):
            ways.append(replace(self.one.way, checkpointed=True))
        while True:
            for way in ways:
                self.bytes = kept + pass_bytes(self.resolver, way, rows, self.base.length, self.one.read)
                if self.bytes <= allowed:
                    self.one = replace(self.one, way=way)
                    return np.array_split(self.one.rows, -(-self.base.rows // rows))
            if rows == 1:
                raise InputError(
                    f"{memory_limit(allowed)}, but gradients of a prompt of {self.base.length} tokens need about "
                    f"{self.bytes}: allow at least that, use a shorter prompt, or name fewer components and layers"
                )
            rows //= 2

    def values(self, measure: Measure) -> np.ndarray:
        """What is measured of the runs as they are, `[rows]`."""
        return _float64(measure(self._logits(self.one)))

    def _logits(self, one: Pass) -> mx.array:
        return mx.concatenate([replace(one, rows=rows).logits() for rows in self.rows])

    def of(
        self,
        measure: Measure,
        share: float = 0.0,
        source: Rows | None = None,
        paired: tuple[mx.array, mx.array] | None = None,
        dropped: int | None = None,
    ) -> tuple[np.ndarray, dict[str, mx.array]]:
        """The measured values and the gradients by site name; see `gradients`.

        paired: positions of the runs, and those of the source that they answer to; None: each to its own.
        dropped: a layer past which gradients go, and not through it.
        """
        mixed = None if source is None or not share else self._mixing(share, source, paired)
        one = replace(self.one, mixed=mixed, dropped=dropped)
        if len(self.rows) == 1:
            values, found = one.gradients(measure, self.zeros)
        else:
            values, found = self._by_rows(one, measure)
        return _float64(values), found

    def _by_rows(self, one: Pass, measure: Measure) -> tuple[mx.array, dict[str, mx.array]]:
        """The same, a few rows at a time: what the logits of all rows weigh is known after a plain pass."""

        def total(logits: mx.array) -> tuple[mx.array, mx.array]:
            values = measure(logits)
            return values.astype(mx.float32).sum(), values

        (_, values), weights = mx.value_and_grad(total)(self._logits(one))
        parts = []
        for rows in self.rows:
            some, weight = replace(one, rows=rows), weights[mx.array(rows)]
            parts.append(some.gradients(lambda x, w=weight: _weighed(x, w), some.zeros()[0])[1])
        axes = {s.name: 0 if s.side == "pattern" else time_axis(self.resolver, s) - 1 for s in self.sites}
        return values, {
            name: mx.concatenate([part[name] for part in parts], axis) for name, axis in axes.items()
        }

    def _mixing(
        self, share: float, source: Rows, paired: tuple[mx.array, mx.array] | None
    ) -> Callable[[mx.array, np.ndarray], mx.array]:
        """What the embeddings of the base runs become: `base + share * (source - base)` where they are paired."""
        base, embed = self.base, self.resolver.site("embed")
        if paired is None and source.length != base.length:
            raise InputError(
                f"the prompts have {base.length} and {source.length} tokens, so their embeddings have no way in between"
            )
        theirs = capture_sites(self.resolver, source, [embed], {embed.name: Keep()})[embed.name]
        members, own = np.arange(len(base.members))[:, None], np.arange(base.each)
        theirs = theirs[mx.array((members * source.each + own % source.each).reshape(-1))]
        at, source_at = paired or (mx.arange(base.length), mx.arange(base.length))

        def mix(x: mx.array, rows: np.ndarray) -> mx.array:
            there, here = (y.astype(mx.float32) for y in (theirs[mx.array(rows)][:, source_at], x[:, at]))
            y = mx.array(x)
            y[:, at] = (here + share * (there - here)).astype(x.dtype)
            return y

        return mix


def _weighed(logits: mx.array, weights: mx.array) -> mx.array:
    """Logits `[rows, ...]` times their weights; a token that the model rules out has none."""
    return (mx.where(mx.isinf(logits), 0, logits) * weights).reshape(len(logits), -1).sum(-1)


def _float64(values: mx.array) -> np.ndarray:
    return np.array(values.astype(mx.float32), dtype=np.float64)
