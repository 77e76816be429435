"""The law of gradients: what attribution patching estimates of small changes is what patches of them do.

The base run and the source run are the same prompt, one with a little noise on two embeddings. Then an estimate
that is made of the right gradients, of the right run, at the right place, is the effect of the patch but for what is
quadratic in the noise; one that lost a part of its gradient, or took another array's, is not.

Where another expert is chosen, effects go by steps, which no gradient tells. Exact patches alone say where: a slope
makes a multiple of the effect of a multiple of the noise. Only at sizes where it does are estimates found wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from ..anatomy.components import HEADED
from ..engine.gradient_check import checked_way
from ..errors import EffectError, UnsupportedError
from ..experiments.noise import GaussianNoise
from .law import DoesNotApply, Measurement, as_numpy, largest, law, listed
from .model_under_test import SUBJECT, ModelUnderTest

SIZES = (0.001, 0.003, 0.01, 0.03, 0.1)  # of the noise, in standard deviations of the embeddings
ALLOWED = 0.1  # of the largest effect: what is not straight
LEAST = 5  # times what the model's own logits move with the batch: effects that say anything
HALF = "logits at half precision have too few digits for changes that are small enough"


@dataclass(frozen=True)
class Effects:
    """What patches of components do at a size of noise: `[components, cells]`, exactly and as estimated."""

    size: float
    exact: np.ndarray
    estimated: np.ndarray
    rounding: float  # what the measure moves by itself

    def seen(self) -> np.ndarray:
        """Whether a component's effects are more than rounding."""
        return _largest(self.exact) > LEAST * self.rounding

    def errors(self) -> np.ndarray:
        """How far a component's estimates are from its effects, relative to the largest; infinite where one is NaN."""
        off = _largest(self.estimated - self.exact)
        return np.where(np.isfinite(off), self._relative(off, self.exact), np.inf)

    def bent(self, before: Effects) -> np.ndarray:
        """How far effects are from what slopes make of those at the size before, relative to the largest."""
        straight = self.exact * before.size / self.size
        return self._relative(_largest(straight - before.exact), straight)

    def _relative(self, off: np.ndarray, effects: np.ndarray) -> np.ndarray:
        return np.maximum(off - self.rounding, 0) / np.maximum(_largest(effects), 1e-12)


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
    errors: dict[str, float] = {}
    steps: list[str] = []
    for components in _calls(tested, layer):
        for direction in ("denoise", "noise") if len(components) > 1 else ("denoise",):
            sizes = (_effects(tested, components, layer, direction, size, measure) for size in SIZES)
            found, no_slope = _best(components, sizes)
            errors.update({f"{name} {direction}": error for name, error in found.items()})
            steps += [f"{name} {direction}" for name in no_slope]
    said = f"; steps and no slope: {listed(steps)}" if steps else ""
    if not errors:
        raise DoesNotApply(f"what two embeddings change does not reach the last position's logits{said}")
    worst = max(errors, key=lambda name: errors[name])
    return Measurement(errors[worst], ALLOWED, f"worst: {worst}{said}")


def _best(names: list[str], sizes: Iterable[Effects | None]) -> tuple[dict[str, float], list[str]]:
    """By component that is seen, the error of its best size; and the components that have nothing but steps."""
    best, slopes, before = np.full(len(names), np.inf), np.zeros(len(names), bool), None
    seen = slopes.copy()
    for now in sizes:
        if now is None:
            continue
        errors, here = now.errors(), now.seen()
        bent = now.bent(before) if before else np.zeros(len(names))
        best[here] = np.minimum(best, errors)[here]
        slopes |= here & ((bent <= ALLOWED) | (errors <= ALLOWED) | np.isinf(errors))
        seen, before = seen | here, now
        if seen.all() and best.max() < ALLOWED / 2:
            break
    judged = seen & slopes
    return {n: float(e) for n, e, j in zip(names, best, judged, strict=True) if j}, [
        n for n, j in zip(names, seen & ~slopes, strict=True) if j
    ]


def _calls(tested: ModelUnderTest, layer: int) -> list[list[str]]:
    """The components of a layer as calls take them: those with heads one by one, the others together."""
    there = [c for c in tested.components if tested.site_exists(c, layer)]
    return [[c for c in there if c not in HEADED], *([c] for c in there if c in HEADED)]


def _effects(
    tested: ModelUnderTest, components: list[str], layer: int, direction: str, size: float, measure: Any
) -> Effects | None:
    """What patches of the components do, exactly and as estimated; None when the noise does nothing."""
    options: dict[str, Any] = {
        "component": components,
        "layers": layer,
        "positions": "each",
        "progress": False,
    }
    options.update(metric=measure, direction=direction, target=0, foil=1)
    noise = GaussianNoise(list(SUBJECT), level=f"s{size}", samples=1)
    try:
        right = tested.model.activation_patching(list(tested.ids), noise, **options)
    except EffectError:
        return None
    found = tested.model.attribution_patching(list(tested.ids), noise, **options)
    exact = right.raw - (right.clean if direction == "noise" else right.corrupted)
    scores = found.scores if found.raw.shape == right.raw.shape else np.full(exact.shape, np.nan)
    rounding = tested.tolerance.floor.typical * largest(as_numpy(tested.plain(tested.ids)))
    shape = (len(components), -1)
    return Effects(size, exact.reshape(shape), scores.reshape(shape), rounding)


def _largest(x: np.ndarray) -> np.ndarray:
    """Of each component; NaN where there is one."""
    return np.abs(x).max(axis=1)


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
