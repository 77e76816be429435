"""What differs between the rows of a batch: which tokens of a cell, and which arrays beside the hidden state."""

from __future__ import annotations

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
