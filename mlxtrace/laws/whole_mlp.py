"""The law that a layer's MLP is all of its MLP: mixer and MLP make up what the layer adds, or it is said."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from ..anatomy.recording import Call, record
from ..engine.runs import to_numpy
from .model_under_test import Found, NotHere, Trial, relative


def accounted(t: Trial) -> Found:
    """Each layer's output as a scaled sum of its input and of what `attn` and `mlp` add, the scales fitted.

    What a part adds is its output, or what a module makes of it by itself (a norm, a gain). Where the sum is not the
    output, the resolver has to say so.
    """
    calls, errors, silent = record(t.net, mx.array([t.ids])), [], []
    for layer in t.has("resid_pre", "resid_post", layers=t.everywhere):
        names = [f"layers.{layer}.{c}" for c in ("attn", "mlp") if f"layers.{layer}.{c}" in t.resolver.table]
        if t.resolver.remarks("attn", [layer]) or len(names) < _parts(t, layer):
            continue  # said, or refused
        acts = t.base.activations
        pre, post = (acts[f"layers.{layer}.{c}"] for c in ("resid_pre", "resid_post"))
        error = _unexplained(
            post, pre, [[acts[name], *_made_of(t, calls, layer, acts[name])] for name in names]
        )
        errors.append(error)
        silent += [layer] if error > t.limit else []
    if not errors:
        raise NotHere("the resolver says of every layer what attn and mlp are not")
    return Found(max(errors), t.limit, f"more is added at layers {silent}" if silent else "")


def _parts(t: Trial, layer: int) -> int:
    info = t.resolver.layer(layer)
    return bool(info.mixers) + bool(info.mlps)


def _made_of(t: Trial, calls: list[Call], layer: int, x: mx.array) -> list[mx.array]:
    """Outputs of the layer's modules that were given `x` and nothing else."""
    info, wanted = t.resolver.layer(layer), to_numpy(x)
    made = []
    for call in calls:
        inputs = call.inputs()
        if call.path.startswith(f"{info.path}.") and call.visit == info.visit and len(inputs) == 1:
            given = to_numpy(inputs[0])
            if (
                given.shape == wanted.shape
                and relative(given, wanted) <= t.limit
                and call.hidden() is not None
            ):
                made.append(call.hidden())
    return made


def _unexplained(post: mx.array, pre: mx.array, parts: list[list[mx.array]]) -> float:
    """The least error of a fit of `post` by `pre` and one candidate for each part."""
    choices = [[]]
    for candidates in parts:
        choices = [[*chosen, x] for chosen in choices for x in candidates if x.shape == post.shape]
    right, errors = to_numpy(post).astype(np.float64).reshape(-1), []
    for chosen in choices:
        columns = np.stack([to_numpy(x).astype(np.float64).reshape(-1) for x in (pre, *chosen)], axis=1)
        scales, *_ = np.linalg.lstsq(columns, right, rcond=None)
        errors.append(relative(columns @ scales, right))
    return min(errors, default=float("inf"))
