"""The loop engine: one traced forward pass for each cell, as it is done by hand. The other engines' reference.

It goes through `forward.trace`, and through nothing of what makes the other engines fast, so that an error of theirs
shows as a difference from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from ..anatomy.resolver import ModuleResolver, Site, rows_back, rows_first
from ..forward.trace import Trace
from .runs import Patch, Rows, to_numpy


def run_loop(
    resolver: ModuleResolver,
    base: Rows,
    sources: dict[bool, dict[str, mx.array]],
    patches: Sequence[Patch],
    block: int,
    prompt: int = 0,
) -> np.ndarray:
    """Patch one cell in a traced pass of `block` whole rows; logits of every position, float32 `[block, T, V]`.

    prompt: which member of the base runs is patched, with the activations of the source's member of that number.
    """
    own, shares = base.members[prompt], (prompt, len(base.members))
    rows = np.arange(block) % own.rows
    edits: dict[Site, list[Callable[[mx.array], mx.array]]] = {
        resolver.site("embed"): [lambda x: own.embedded(x, rows)]
    }
    for patch in patches:
        edits.setdefault(patch.site, []).append(_writer(resolver, patch, sources, block, shares))
    # a trace takes sites as well as their names, and taps no others where it is to keep none
    interventions: dict[Any, Callable] = {site: _one_after_the_other(fns) for site, fns in edits.items()}
    with Trace(resolver, own.tokens(rows), None, interventions, cache=False, sites=[]) as trace:
        pass
    return to_numpy(trace.output)


def _one_after_the_other(fns: list[Callable[[mx.array], mx.array]]) -> Callable[[mx.array], mx.array]:
    def edit(x: mx.array) -> mx.array:
        for fn in fns:
            x = fn(x)
        return x

    return edit


def _writer(
    resolver: ModuleResolver,
    patch: Patch,
    sources: dict[bool, dict[str, mx.array]],
    block: int,
    shares: tuple[int, int],
) -> Callable[[mx.array], mx.array]:
    """A patch's edit. shares: which share of the source's rows is the cell's own, and of how many."""
    site, (prompt, members) = patch.site, shares
    source = rows_first(resolver, site, sources[patch.fixed][site.name])
    each = source.shape[0] // members
    rows = mx.array(prompt * each + np.arange(block) % each)

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
