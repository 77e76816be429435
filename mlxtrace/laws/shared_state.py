"""State that reaches later layers beside the residual stream, as far as the layers' calls show it."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from ..anatomy.architecture_exceptions import exceptional
from ..anatomy.recording import record


def state_beside_the_stream(
    net: nn.Module, layers: set[tuple[str, int]], ids: Sequence[int], axes: dict
) -> str:
    """How state may reach later layers beside the stream; '' if it is not seen to.

    layers: path and visit of each. axes: what the layers are given beside the stream, as the probe found it.
    """
    calls = [call for call in record(net, mx.array([list(ids)])) if (call.path, call.visit) in layers]
    if axes:
        return "layers are given more than the stream (per-layer inputs, keys, values)"
    if any(isinstance(call.output, (tuple, list)) and len(call.output) > 1 for call in calls):
        return "layers return more than the stream"
    for value in (v for call in calls for v in (*call.args, *call.kwargs.values())):
        if isinstance(value, dict) or type(value).__module__ == type(net).__module__:
            return f"layers share a {type(value).__name__}"
    if exceptional(net).needs_cache:
        return "keys and values are shared between layers through the cache"
    return ""
