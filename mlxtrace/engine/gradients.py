"""Gradients of a measure for the arrays at some sites, in one forward and one backward pass.

    values, found = gradients(resolver, Run(ids), [resolver.site("mlp", 3)], lambda logits: logits[:, 12])
    found["layers.3.mlp"]               # [rows, T, D]: what a small change there does to the measure

They are first held against finite differences of the model's own forward pass, once per model (`gradient_check`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import InputError
from .gradient_check import checked_way
from .gradient_pass import Measure as Measure
from .gradient_pass import Pass
from .runs import Keep, Rows, Site, capture_sites


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

    Attributes:
        attended: by module path and visit, what each attention call is given: scale, mask, sinks.
    """

    def __init__(self, resolver: Any, base: Rows, sites: Sequence[Site], max_memory: int | None = None):
        self.resolver, self.base, self.sites = resolver, base, list(sites)
        self.one = Pass(resolver, base, np.arange(base.rows), self.sites, checked_way(resolver))
        self.zeros, self.attended = self.one.zeros()

    def values(self, measure: Measure) -> np.ndarray:
        """What is measured of the runs as they are, `[rows]`."""
        return _float64(measure(self.one.logits()))

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
        values, found = one.gradients(measure, self.zeros)
        return _float64(values), found

    def _mixing(
        self, share: float, source: Rows, paired: tuple[mx.array, mx.array] | None
    ) -> Callable[[mx.array], mx.array]:
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

        def mix(x: mx.array) -> mx.array:
            there, here = theirs[:, source_at].astype(mx.float32), x[:, at].astype(mx.float32)
            y = mx.array(x)
            y[:, at] = (here + share * (there - here)).astype(x.dtype)
            return y

        return mix


def _float64(values: mx.array) -> np.ndarray:
    return np.array(values.astype(mx.float32), dtype=np.float64)
