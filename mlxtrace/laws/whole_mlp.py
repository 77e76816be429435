"""The law that a layer's MLP is all of its MLP: mixer and MLP make up what the layer adds, or it is said."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from ..anatomy.recording import Call, record
from .law import DoesNotApply, Measurement, law
from .model_under_test import ModelUnderTest
from .relative_error import as_numpy, relative_error


@law(
    "a layer adds what attn and mlp write, or it is said",
    "attn, mlp: they are parts of what they are called",
)
def accounted(tested: ModelUnderTest) -> Measurement:
    """Each layer's output as a scaled sum of its input and of what `attn` and `mlp` add, the scales fitted.

    What a part adds is its output, or what a module makes of it by itself (a norm, a gain). Where the sum is not the
    output, the resolver has to say so.
    """
    calls, errors, silent = record(tested.net, mx.array([tested.ids])), [], []
    for layer in tested.layers_with("resid_pre", "resid_post", layers=tested.all_layers):
        names = [f"layers.{layer}.{c}" for c in ("attn", "mlp") if tested.site_exists(c, layer)]
        if tested.resolver.remarks("attn", [layer]) or len(names) < _parts(tested, layer):
            continue  # said, or refused
        shown = tested.base.activations
        pre, post = (shown[f"layers.{layer}.{c}"] for c in ("resid_pre", "resid_post"))
        parts = [[shown[name], *_made_of(tested, calls, layer, shown[name])] for name in names]
        error = _unexplained(post, pre, parts)
        errors.append(error)
        silent += [layer] if error > tested.limit else []
    if not errors:
        raise DoesNotApply("the resolver says of every layer what attn and mlp are not")
    return Measurement(max(errors), tested.limit, f"more is added at layers {silent}" if silent else "")


def _parts(tested: ModelUnderTest, layer: int) -> int:
    info = tested.resolver.layer(layer)
    return bool(info.mixers) + bool(info.mlps)


def _made_of(tested: ModelUnderTest, calls: list[Call], layer: int, x: mx.array) -> list[mx.array]:
    """Outputs of the layer's modules that were given `x` and nothing else."""
    info, wanted = tested.resolver.layer(layer), as_numpy(x)
    made = []
    for call in calls:
        inputs = call.inputs()
        if call.path.startswith(f"{info.path}.") and call.visit == info.visit and len(inputs) == 1:
            given = as_numpy(inputs[0])
            if (
                given.shape == wanted.shape
                and relative_error(given, wanted) <= tested.limit
                and call.hidden() is not None
            ):
                made.append(call.hidden())
    return made


def _unexplained(post: mx.array, pre: mx.array, parts: list[list[mx.array]]) -> float:
    """The least error of a fit of `post` by `pre` and one candidate for each part."""
    choices = [[]]
    for candidates in parts:
        choices = [[*chosen, x] for chosen in choices for x in candidates if x.shape == post.shape]
    right, errors = as_numpy(post).astype(np.float64).reshape(-1), []
    for chosen in choices:
        columns = np.stack([as_numpy(x).astype(np.float64).reshape(-1) for x in (pre, *chosen)], axis=1)
        scales, *_ = np.linalg.lstsq(columns, right, rcond=None)
        errors.append(relative_error(columns @ scales, right))
    return min(errors, default=float("inf"))
