"""The textbook way to run one cell: a full forward pass of its own. Slow, plain, and the engines' reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np

from ..anatomy.resolver import ModuleResolver, Site
from ..forward.trace import Trace
from .runs import Patch, Run, rows_back, rows_first, to_numpy


def run_textbook(
    resolver: ModuleResolver, base: Run, sources: dict[bool, dict], patches: Sequence[Patch], block: int
) -> np.ndarray:
    """Patch one cell in a traced pass of `block` whole rows; logits of every position, float32 `[block, T, V]`."""
    rows = np.arange(block) % base.rows
    edits: dict[Site, list[Callable]] = {resolver.site("embed"): [lambda x: base.embedded(x, rows)]}
    for patch in patches:
        edits.setdefault(patch.site, []).append(_writer(resolver, patch, sources, block))
    interventions = {site: _one_after_the_other(fns) for site, fns in edits.items()}
    with Trace(resolver, mx.array([base.ids] * block), None, interventions, cache=False) as trace:
        pass
    return to_numpy(trace.output)


def _one_after_the_other(fns: list[Callable]) -> Callable:
    def edit(x: mx.array) -> mx.array:
        for fn in fns:
            x = fn(x)
        return x

    return edit


def _writer(resolver: ModuleResolver, patch: Patch, sources: dict[bool, dict], block: int) -> Callable:
    site = patch.site
    source = rows_first(resolver, site, sources[patch.held][site.name])
    rows = mx.array(np.arange(block) % source.shape[0])

    def write(x: mx.array) -> mx.array:
        changed = mx.array(rows_first(resolver, site, x))
        for p, q in zip(patch.at, patch.source_at, strict=True):
            if patch.heads is None:
                changed[:, p] = source[rows, q]
            else:
                for head in patch.heads:
                    changed[:, p, head] = source[rows, q, head]
        return rows_back(resolver, site, changed)

    return write
