"""Where gradients of a sharded model must be summed over its ranks, because mlx-lm does not do so itself.

A linear map whose output each rank reads with a share of its own weights has, on each rank, only a part of its
gradient. Where mlx-lm shards such a reader (`AllToShardedLinear`, mixtures of experts) it sums; in multi-head latent
attention it does not, as the latent keys are read by matrices that it slices by head.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from ..anatomy.shards import Part, share_of
from . import calibration
from .gradient_pass import Measure, Pass, Site, Way

APART = 0.02  # how far the gradients of two ranks are apart, by their size, that are parts


def sum_gradients(resolver: Any, way: Way, measure: Measure) -> None:
    """Have the passes of a sharded model sum the gradients of what its mixers read; measured once per kind of mixer.

    From the last layer to the first, so that what is measured of one is not another's fault.
    """
    known: dict[tuple, list[str]] = {}
    resolver.gradient_sums = ()
    for layer in reversed(resolver.structure.layers):
        found = [path for path in layer.reads if _is_whole(resolver, path)]
        if not found or not share_of(resolver.paths[layer.mixers[0]]):
            continue
        names = [path.rpartition(".")[2] for path in found]
        kind = type(resolver.paths[layer.mixers[0]]).__name__, *names
        sites = [Site(path, path, visit=layer.visit) for path in found]
        if kind not in known:
            known[kind] = _partial(resolver, way, measure, sites)
        resolver.gradient_sums += tuple(
            site for site, name in zip(sites, names, strict=True) if name in known[kind]
        )


def _is_whole(resolver: Any, path: str) -> bool:
    share = share_of(resolver.paths[path])
    return share is None or (share.output is None and not share.unknown)


def _partial(resolver: Any, way: Way, measure: Measure, sites: list[Site]) -> list[str]:
    """The names of the modules whose outputs have other gradients on other ranks."""
    one = Pass(resolver, calibration.rows_of(resolver, 1), np.arange(1), sites, way)
    found = one.gradients(measure, one.zeros()[0])[1]
    names = []
    for site in sites:
        x = found[site.name].astype(mx.float32)
        of_all = np.array(Part(resolver.group, 0).whole(x[None]))
        if np.abs(of_all - of_all[:1]).max() > APART * np.abs(of_all).max():
            names.append(site.path.rpartition(".")[2])
    return names
