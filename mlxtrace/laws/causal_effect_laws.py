"""The law of causal effects: direct and indirect effects, and windows without noise, against runs by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import mlx.core as mx
import numpy as np

from .law import Measurement, as_numpy, law
from .model_under_test import LENGTH, ModelUnderTest
from .module_calls import first_array, watched, with_first_array
from .pair_by_hand import NOISE_SEED, SAMPLES, PairByHand, window_of


@law("causal effects and noising windows, by hand", "causal_effects, noising_window")
def effects(tested: ModelUnderTest) -> Measurement:
    """Direct and indirect effects of windows of two layers; noise in all layers but a window."""
    states, *parts = tested.components_in_all(["resid_post", "mlp", "attn"], tested.all_layers)
    pair = PairByHand(tested, [states, *parts[:1]])
    errors = [_effects(tested, pair, states, metric) for metric in ("logit", "prob_diff")]
    # of a window of states the last one decides; of a window of parts, each
    errors += [_effects(tested, pair, part, "logit") for part in parts[:1]]
    return Measurement(max(*errors, _noising_windows(tested, pair, states)), tested.limit)


def _effects(tested: ModelUnderTest, pair: PairByHand, component: str, metric: str) -> float:
    layers, every = tested.first_middle_last(), list(range(LENGTH))
    options = {"target": pair.target, "foil": pair.foil, "window": 2, "layers": layers, "progress": False}
    found = tested.model.causal_effects(pair.corrupted, pair.clean, component, metric=metric, **options)
    source, base = pair.plain_values(metric)
    errors = [abs(found.source_value - source), abs(found.base_value - base)]
    for i, layer in enumerate(layers):
        around = window_of(layer, 2, tested.model.n_layers)
        restored, removed = (
            float(pair.value(pair.patched(direction, component, around, every, every), metric).mean())
            for direction in ("denoise", "noise")
        )
        errors += [abs(found.direct[i] - restored), abs(found.indirect[i] - (source - removed))]
        # the literature's: each half-and-half run less the base run
        errors += [
            abs(found.natural_indirect[i] - (restored - base)),
            abs(found.natural_direct[i] - (removed - base)),
        ]
    scale = pair.scale if metric == "logit" else pair.probability_scale(max(abs(source), abs(base)))
    return max(errors) / scale


def _noising_windows(tested: ModelUnderTest, pair: PairByHand, component: str) -> float:
    n, centres = tested.model.n_layers, tested.middle_last()
    if any(pair.clean_activations[component, i].ndim != 3 for i in tested.all_layers):
        return 0.0
    found = tested.model.noising_window(
        pair.clean,
        window=3,
        level=0.05,
        samples=SAMPLES,
        seed=NOISE_SEED,
        component=component,
        layers=centres,
        target=pair.top,
    )
    shape = pair.clean_activations[component, 0].shape[1:]
    noise = (0.05 * np.random.RandomState(NOISE_SEED).randn(SAMPLES, n, *shape)).astype(np.float32)

    def probability(sample: int, restored: Iterable[int]) -> float:
        logits = _noised_pass(tested, pair, component, noise[sample], set(restored))
        return float(pair.answer_probability(logits))

    errors = []
    for c, centre in enumerate(centres):
        window = range(centre - 1, centre + 2)
        errors += [abs(found.raw[c, s] - probability(s, window)) for s in range(SAMPLES)]
    none = [probability(s, ()) for s in range(SAMPLES)]
    high = float(pair.answer_probability(pair.clean_logits))
    errors += [abs(found.noised - np.mean(none)), abs(found.clean - high)]
    return float(max(errors)) / pair.probability_scale(max(high, *none, found.raw.max()))


def _noised_pass(
    tested: ModelUnderTest, pair: PairByHand, component: str, noise: np.ndarray, restored: set[int]
) -> np.ndarray:
    """Last-position logits with every layer's component noised, or restored to the clean run's, in one pass."""
    places = {
        (place.path, place.visit): i for (c, i), place in tested.by_hand.places.items() if c == component
    }
    visits: Counter[str] = Counter()

    def call(path: str, forward: Callable, args: tuple, kwargs: dict) -> Any:
        layer = places.get((path, visits[path]))
        visits[path] += 1
        out = forward(*args, **kwargs)
        if layer is None:
            return out
        x = first_array(out)
        clean = pair.clean_activations[component, layer]
        now = clean if layer in restored else as_numpy(x) + noise[layer]
        return with_first_array(out, mx.array(now).astype(x.dtype))

    with watched(tested.by_hand.watch({path for path, _ in places}), call):
        return tested.by_hand.logits(pair.clean)[-1]
