"""The calls of a pass's layers written down, so that they can be made again; and which layers are parallel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from ..anatomy.recording import arrays_of, forward, same, snapshot
from .calibration import Hooks, ModuleResolver, norm_input, per_model, rows_of
from .differences import side_axes
from .layer_calls import Layer, LayerCall

__all__ = ["Hooks", "LayerCall", "ModuleResolver", "norm_input", "parallel_layers", "record_calls"]
axes_beside = per_model(side_axes)  # two passes that are looked at module by module: not for every edge anew


def record_calls(hooks: Hooks) -> dict[int, LayerCall]:
    """Have the pass of some hooks write down the calls of its layers, by layer."""
    calls: dict[int, LayerCall] = {}
    resolver = hooks.resolver
    beside = axes_beside(resolver)

    def recording(index: int, layer: Layer) -> Callable[..., Any]:
        def call(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            rows = next(x for _, x in arrays_of(args, kwargs)).shape[0]
            kept = snapshot(args), {key: snapshot(value) for key, value in kwargs.items()}
            axes = beside.get((layer.path, layer.visit), {})
            calls[index] = LayerCall(layer, resolver.paths, forward, *kept, rows, axes)
            return forward(*args, **kwargs)

        return call

    for index, layer in enumerate(resolver.structure.layers):
        hooks.forwards[layer.path, layer.visit] = recording(index, layer)
    return calls


@per_model
def parallel_layers(resolver: ModuleResolver) -> tuple[bool, ...]:
    """By layer, whether its MLP is given the same whatever its mixer gives: the two read the same stream."""
    hooks, run = Hooks(resolver), rows_of(resolver, 1)
    calls, streams = record_calls(hooks), {}
    for index, layer in enumerate(resolver.structure.layers):
        if layer.slot is not None:
            hooks.add_site(resolver.site("resid_pre", index), lambda x, at=index: streams.update({at: x}))
    with hooks.hooked():
        mx.eval(forward(resolver.net, run.tokens(np.arange(1))))

    def is_parallel(index: int) -> bool:
        layer = resolver.layer(index)
        if index not in streams or not (layer.mixers and layer.summed):
            return False
        x = streams[index]
        # what it gives may be 0 for both
        return same(*(calls[index].mlp_input(x, mixer) for mixer in (None, mx.flip(x, 1))))

    return tuple(is_parallel(index) for index in range(resolver.n_layers))
