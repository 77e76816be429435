"""How many heads mixers have: what they say themselves, or how many their attention call was seen to have."""

from __future__ import annotations

from collections.abc import Mapping

import mlx.nn as nn

from .layout import Layer, Structure

HEAD_NAMES = ("n_heads", "num_attention_heads", "num_heads", "n_head", "num_v_heads")
KV_HEAD_NAMES = ("n_kv_heads", "num_key_value_heads", "num_kv_heads")


def said_heads(holder: object, kv: bool) -> int | None:
    """The number of heads (or of key-value heads) that a mixer or a model's arguments say."""
    values = (getattr(holder, name, None) for name in (*(KV_HEAD_NAMES if kv else ()), *HEAD_NAMES))
    return next((v for v in values if isinstance(v, int) and v > 0), None)


def layer_heads(
    layer: Layer,
    mixers: list[nn.Module],
    paths: Mapping[str, nn.Module],
    args: object,
    kv: bool = False,
    ranks: int = 1,
) -> int | None:
    """Query heads (or key-value heads) of a layer's mixer; value heads where attention is linear.

    The mixer's own attributes say, or else its attention call. The model's arguments are believed only when none of
    the model's `mixers` says anything, because in mixed models they mean the attention layers alone. ranks: over
    which the model is sharded: a mixer says how many of its heads are this rank's, its attention call is seen whole.
    """
    found = said_heads(paths[layer.mixers[0]], kv) if layer.mixers else None
    if ranks > 1:
        found = layer.attention_heads[kv] or (found and found * ranks)
    found = found or layer.attention_heads[kv]
    if found or not layer.mixers or any(said_heads(m, kv) for m in mixers):
        return found
    return said_heads(args, kv)


def model_heads(mixers: list[nn.Module], args: object, kv: bool = False) -> int | None:
    """Heads of the model's attention: of the first mixer that has queries, else of the first that has heads."""
    plain = [m for m in mixers if hasattr(m, "scale") or hasattr(m, "rope")]
    found = (said_heads(m, kv) for m in [*plain, *mixers])
    return next((n for n in found if n), None) or said_heads(args, kv)


def mixer_modules(structure: Structure, paths: Mapping[str, nn.Module]) -> list[nn.Module]:
    """The mixers of all layers, in the order in which they run."""
    return [paths[path] for layer in structure.layers for path in layer.mixers]
