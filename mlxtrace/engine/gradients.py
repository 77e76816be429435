"""Gradients of a measure for the arrays at some sites, in one forward and one backward pass.

    values, found = gradients(resolver, Run(ids), [resolver.site("mlp", 3)], lambda logits: logits[:, 12])
    found["layers.3.mlp"]               # [rows, T, D]: what a small change there does to the measure

They are first held against finite differences of the model's own forward pass, once per model (`gradient_check`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np

from .gradient_check import checked_way, refuse_wrong
from .gradient_pass import Measure, Pass
from .runs import Keep, Rows, Site, capture_sites


def gradients(
    resolver,
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
    way = checked_way(resolver)
    refuse_wrong(resolver, sites)
    mixed = _mixing(resolver, base, share, source) if share and source is not None else None
    one = Pass(resolver, base, np.arange(base.rows), sites, way, mixed)
    values, found = one.gradients(measure, one.zeros()[0])
    return np.array(values.astype(mx.float32), dtype=np.float64), found


def _mixing(resolver, base: Rows, share: float, source: Rows) -> Callable[[mx.array], mx.array]:
    """What the embeddings of base become: `base + share * (source - base)`."""
    embed = resolver.site("embed")
    theirs = capture_sites(resolver, source, [embed], {embed.name: Keep()})[embed.name]
    return lambda x: (x + share * (theirs.astype(mx.float32) - x)).astype(x.dtype)
