"""What differs between the rows of a batch: which tokens of a cell, and which arrays beside the hidden state."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..anatomy.components import COMPONENTS
from ..anatomy.recording import probe_tokens, record
from ..anatomy.resolver import ModuleResolver
from .runs import Patch

STAGES = ("input", "mixer", "output")  # when in a layer a component is written, see `Component.stage`
DEEPEST = 5  # levels of objects in objects that are looked into


class ChangedTokens:
    """Which tokens of which cells can differ from the base run, before and after the mixing of each layer.

    before, after: bool `[layers, cells, T]`. A patched token differs; mixing carries the difference to every
    later token; at the end only the last token counts.
    """

    def __init__(self, resolver: ModuleResolver, cells: list[Sequence[Patch]], start: int, length: int):
        self.resolver = resolver
        n = resolver.n_layers
        written = np.zeros((n, 3, len(cells), length - start), dtype=bool)
        for i, patches in enumerate(cells):
            for patch in patches:
                site = patch.site
                if site.layer is not None and site.component is not None:
                    stage = STAGES.index(COMPONENTS[site.component].stage)
                    written[site.layer, stage, i, np.array(patch.at) - start] = True
        self.before, self.after = np.zeros((2, n, len(cells), length - start), dtype=bool)
        differs = np.zeros((len(cells), length - start), dtype=bool)
        for layer in range(n):
            self.before[layer] = differs | written[layer, 0]
            self.after[layer] = np.logical_or.accumulate(self.before[layer], axis=1) | written[layer, 1]
            differs = self.after[layer] | written[layer, 2]

    def last_only(self, layer: int) -> bool:
        """Whether nothing but the last token is read of what the layer does after its mixing."""
        return layer == self.resolver.n_layers - 1 and self.resolver.structure.norm is not None


def map_arrays(value: Any, edit: Callable[[mx.array, tuple], mx.array], where: tuple = ()) -> Any:
    """The same nest of tuples, lists, dicts and objects with every array replaced by `edit(array, where it is)`.

    Lists, dicts and objects (a cache, say) may be shared by several layers, so they are changed in place.
    """
    if isinstance(value, mx.array):
        return edit(value, where)
    if type(value) is tuple:
        return tuple(map_arrays(v, edit, (*where, i)) for i, v in enumerate(value))
    if type(value) is list:
        value[:] = [map_arrays(v, edit, (*where, i)) for i, v in enumerate(value)]
    elif type(value) is dict:
        value.update({k: map_arrays(v, edit, (*where, k)) for k, v in value.items()})
    elif hasattr(value, "__dict__") and not isinstance(value, (nn.Module, type)) and len(where) < DEEPEST:
        for name, inner in list(vars(value).items()):
            changed = map_arrays(inner, edit, (*where, name))
            if changed is not inner:
                setattr(value, name, changed)
    return value


def side_axes(resolver: ModuleResolver) -> dict[tuple[str, int], dict[tuple, int]]:
    """For each layer call that is given arrays beside the hidden state: where they are and their batch axis.

    Found by two probe passes, of two and of three rows: the axis is the one that changes.
    """
    two, three = (_argument_shapes(resolver, rows) for rows in (2, 3))
    axes: dict[tuple[str, int], dict[tuple, int]] = {}
    for call, shapes in two.items():
        for where, shape in shapes.items():
            changed = [i for i, (a, b) in enumerate(zip(shape, three[call][where], strict=True)) if a != b]
            if changed:
                axes.setdefault(call, {})[where] = changed[0]
    return {call: found for call, found in axes.items() if len(found) > 1}


def _argument_shapes(resolver: ModuleResolver, rows: int) -> dict[tuple[str, int], dict[tuple, tuple]]:
    layers = {(layer.path, layer.visit) for layer in resolver.structure.layers}
    shapes: dict[tuple[str, int], dict[tuple, tuple]] = {}
    for call in record(resolver.net, mx.concatenate([probe_tokens(resolver.structure.vocab_size)] * rows)):
        if (call.path, call.visit) not in layers:
            continue
        found = shapes.setdefault((call.path, call.visit), {})

        def note(x: mx.array, where: tuple, found: dict = found) -> mx.array:
            found[where] = tuple(x.shape)
            return x

        map_arrays(call.args, note)
        map_arrays(call.kwargs, note)
    return shapes


def scatter(x: mx.array, to: tuple, source: mx.array, from_: tuple) -> mx.array:
    """x with `x[to] = source[from_]`, each index tuple flattened into one index."""
    n = len(to)
    flat = mx.array(x.reshape(-1, *x.shape[n:]))
    values = source.reshape(-1, *source.shape[n:])[_flat_index(from_, source.shape[:n])]
    flat[_flat_index(to, x.shape[:n])] = values.astype(x.dtype)
    return flat.reshape(x.shape)


def _flat_index(index: tuple, shape: Sequence[int]) -> mx.array:
    return mx.array(np.asarray(np.ravel_multi_index(index, tuple(shape))))


def on_tokens(full: np.ndarray, origin: np.ndarray) -> Callable[..., mx.array]:
    """A module's call on the tokens of `full [rows, T]` alone; the others take what their row of `origin` gets."""
    order = np.cumsum(full.reshape(-1)).reshape(full.shape) - 1
    back = np.where(full, order, order[origin])
    taken, back = mx.array(np.flatnonzero(full)), mx.array(back.reshape(-1))

    def run(forward: Callable[..., mx.array], x: mx.array, *rest: Any, **named: Any) -> mx.array:
        flat = x.reshape(-1, x.shape[-1])
        out = forward(mx.take(flat, taken, axis=0)[None], *rest, **named)[0]
        return mx.take(out, back, axis=0).reshape(*x.shape[:-1], -1)

    return run


def indices(
    entries: Sequence[tuple[int, Patch]], prompts: np.ndarray, each: int, block: int, first: int, start: int
) -> tuple[tuple, tuple]:
    """(row, position[, head]) of every vector that is written, and of the source vector written there.

    entries: the cell's number, and its patch. prompts: of each cell. each: rows of the source for each prompt. block:
    rows of a cell, those of cells from row `first` on. start: the first position that is run.
    """
    parts = []
    for (_, _, own), alike in itertools.groupby(entries, _shape):
        cells, patches = zip(*alike, strict=True)
        cell, sample = np.array(cells)[:, None, None, None], np.arange(block)[:, None, None]
        rows = prompts[cell] * each + sample % each
        if not own:
            rows = np.array([p.source_row for p in patches])[:, None, None, None] + sample
        at, source_at = (
            np.array(found)[:, None, :, None]
            for found in ([p.at for p in patches], [p.source_at for p in patches])
        )
        heads = np.array([p.heads or (0,) for p in patches])[:, None, None, :]
        index = first + cell * block + sample, at - start, rows, source_at, heads
        parts.append([part.reshape(-1) for part in np.broadcast_arrays(*index)])
    row, at, source_row, source_at, head = (np.concatenate(column) for column in zip(*parts, strict=True))
    tail = () if entries[0][1].heads is None else (head,)
    return (row, at, *tail), (source_row, source_at, *tail)


def _shape(entry: tuple[int, Patch]) -> tuple[int, int, bool]:
    """What patches have in common whose indices are made together: positions, heads, whose row of the source."""
    patch = entry[1]
    return len(patch.at), len(patch.heads or (0,)), patch.source_row is None
