"""The law of gradients: what attribution patching estimates of small changes is what patches of them do.

The base run and the source run are the same prompt, one with a little noise on two embeddings. Then an estimate
that is made of the right gradients, of the right run, at the right place, is the effect of the patch but for what is
quadratic in the noise; one that lost a part of its gradient, or took another array's, is not.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from ..anatomy.components import HEADED
from ..engine.gradient_check import checked_way
from ..errors import EffectError, UnsupportedError
from ..experiments.noise import GaussianNoise
from .law import DoesNotApply, Measurement, as_numpy, largest, law
from .model_under_test import SUBJECT, ModelUnderTest

SIZES = (
    "s0.001",
    "s0.003",
    "s0.01",
    "s0.03",
    "s0.1",
)  # of the noise, in standard deviations of the embeddings
ALLOWED = 0.1  # of the largest effect: what is not straight
LEAST = 5  # times what the model's own logits move with the batch: effects that say anything
HALF = "logits at half precision have too few digits for changes that are small enough"


@law("small patches do what gradients say", "attribution_patching, and what is ranked by it: screen, edges")
def small_changes(tested: ModelUnderTest) -> Measurement:
    """Every component at a middle layer, by position and by head, both ways; the best of a few sizes counts."""
    if tested.tolerance.dtype != mx.float32:
        raise DoesNotApply(HALF)
    layer, measure = tested.layers[len(tested.layers) // 2], _random_sum(tested)
    try:
        checked_way(tested.resolver)
    except UnsupportedError as error:
        raise DoesNotApply(f"refused: {error}") from error
    errors: dict[tuple[str, str], float] = {}
    for components in _calls(tested, layer):
        for direction in ("denoise", "noise") if len(components) > 1 else ("denoise",):
            for size in SIZES:
                found = _errors(tested, components, layer, direction, size, measure)
                for name, error in found.items():
                    errors[name, direction] = min(error, errors.get((name, direction), np.inf))
                if all(errors.get((name, direction), np.inf) < ALLOWED / 2 for name in components):
                    break
    if not errors:
        raise DoesNotApply("what two embeddings change does not reach the last position's logits")
    worst = max(errors, key=lambda name: errors[name])
    return Measurement(errors[worst], ALLOWED, f"worst: {' '.join(worst)}")


def _calls(tested: ModelUnderTest, layer: int) -> list[list[str]]:
    """The components of a layer as calls take them: those with heads one by one, the others together."""
    there = [c for c in tested.components if tested.site_exists(c, layer)]
    return [[c for c in there if c not in HEADED], *([c] for c in there if c in HEADED)]


def _errors(
    tested: ModelUnderTest, components: list[str], layer: int, direction: str, size: str, measure: Any
) -> dict[str, float]:
    """By component whose effects are more than rounding, how far estimates are from them, relative to the largest."""
    options: dict[str, Any] = {
        "component": components,
        "layers": layer,
        "positions": "each",
        "progress": False,
    }
    options.update(metric=measure, direction=direction, target=0, foil=1)
    noise = GaussianNoise(list(SUBJECT), level=size, samples=1)
    try:
        right = tested.model.activation_patching(list(tested.ids), noise, **options)
    except EffectError:  # the noise does nothing
        return {}
    found = tested.model.attribution_patching(list(tested.ids), noise, **options)
    if found.raw.shape != right.raw.shape or not np.isfinite(found.scores).all():
        return dict.fromkeys(components, float("inf"))
    effects = right.raw - (right.clean if direction == "noise" else right.corrupted)
    off, whole = (np.abs(x).reshape(len(components), -1).max(1) for x in (found.scores - effects, effects))
    rounding = tested.tolerance.floor.typical * largest(as_numpy(tested.plain(tested.ids)))
    errors = np.maximum(off - rounding, 0) / np.maximum(whole, 1e-12)
    return {c: float(e) for c, e, w in zip(components, errors, whole, strict=True) if w > LEAST * rounding}


def _random_sum(tested: ModelUnderTest) -> Any:
    """A sum of logits by random weights, less what it is in the clean run: as good for NumPy's arrays as for MLX's."""
    logits = np.array(tested.plain(tested.ids)[0, -1].astype(mx.float32), dtype=np.float64)
    possible = np.isfinite(logits)
    weights = np.random.RandomState(0).randn(len(logits)) * possible / max(possible.sum(), 1) ** 0.5
    level = float(np.where(possible, logits, 0) @ weights)

    def random_sum(x: Any) -> Any:
        if isinstance(x, mx.array):
            return mx.where(mx.isinf(x), 0, x) @ mx.array(weights.astype(np.float32)) - level
        return np.where(np.isinf(x), 0, x) @ weights - level

    return random_sum
