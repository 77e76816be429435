"""The laws of causal traces, severed ones too: their probabilities, against runs by hand with the same noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .law import Measurement, law
from .model_under_test import LENGTH, SUBJECT, ModelUnderTest
from .pair_by_hand import NOISE_SEED, SAMPLES, Noise, PairByHand, Write, drawn_by_hand, window_of

POSITIONS = [SUBJECT[-1], LENGTH - 1]  # at the last token the last layer's part counts, too
Logits = Callable[[int, int], np.ndarray]  # layer, position -> logits [samples, V]


@law("causal traces, by hand", "causal_trace: states, windows of MLPs and attention, severed traces")
def traces(tested: ModelUnderTest) -> Measurement:
    """Restored states and windows at a few layers and positions; the low and high score."""
    kinds = tested.components_in_all(["resid_post", "mlp", "attn"], tested.all_layers)
    pair, errors = PairByHand(tested, kinds, None, tested.ids, drawn_by_hand(tested, "s3")), []
    for kind in kinds:
        width = 1 if kind == "resid_post" else 3
        found = _trace(tested, kind=None if kind == "resid_post" else kind, window=3, target=pair.top)

        def restored(layer: int, position: int, kind: str = kind, width: int = width) -> np.ndarray:
            layers = window_of(layer, width, tested.model.n_layers)
            return pair.patched("denoise", kind, layers, [position], [position])

        errors.append(_error_of(found, pair, tested.first_middle_last(), restored))
    return Measurement(max(errors), tested.limit)


@law("severed causal traces, by hand", 'causal_trace(severed="mlp")')
def severed(tested: ModelUnderTest) -> Measurement:
    """A state restored while an MLP's or mixer's outputs at its token are kept at another draw's values, or its own."""
    component = tested.components_in_all(["mlp", "attn"], tested.all_layers)[0]
    tested.components_in_all(["resid_post"], tested.all_layers)
    noises, errors = drawn_by_hand(tested, "s3", 2 * SAMPLES), []
    first, others = noises[:SAMPLES], noises[SAMPLES:]
    for severed_noise, second in (("next", others), ("same", first)):
        pair = PairByHand(tested, ["resid_post", component], None, tested.ids, first)
        found = _trace(tested, severed=component, severed_noise=severed_noise, target=pair.top)
        restored = _restored_and_severed(tested, pair, component, second)
        errors.append(_error_of(found, pair, tested.middle_last(), restored))
    return Measurement(max(errors), tested.limit)


def _restored_and_severed(
    tested: ModelUnderTest, pair: PairByHand, component: str, noises: Sequence[Noise]
) -> Logits:
    """Runs with one draw in which a component is kept, at one token, at the values that it has with the pair's draw."""

    def restored(layer: int, position: int) -> np.ndarray:
        rows, at = [], [position]
        for kept, noise in zip(pair.corrupted_activations, noises, strict=True):
            writes = [Write(component, i, at, kept[component, i], at) for i in tested.all_layers]
            clean = pair.clean_activations["resid_post", layer]
            writes.append(Write("resid_post", layer, at, clean, at))
            rows.append(pair.by_hand.run(tested.ids, writes, noise)[0][-1])
        return np.stack(rows)

    return restored


def _trace(tested: ModelUnderTest, **options: Any) -> Any:
    """The experiment as a user asks for it."""
    options = {"samples": SAMPLES, "seed": NOISE_SEED, "positions": POSITIONS, "progress": False, **options}
    return tested.model.causal_trace(list(tested.ids), SUBJECT, **options)


def _error_of(found: Any, pair: PairByHand, layers: Sequence[int], restored: Logits) -> float:
    """The largest error of a trace's probabilities, as the relative error of logits that would make it."""
    right = {
        (i, layer): pair.answer_probability(restored(layer, position))
        for i, position in enumerate(POSITIONS)
        for layer in layers
    }
    low = float(pair.answer_probability(pair.corrupted_logits).mean())
    high = float(pair.answer_probability(pair.clean_logits[None])[0])
    errors = [abs(found.low_score - low), abs(found.high_score - high)]
    errors += [np.abs(found.raw[where] - p).max() for where, p in right.items()]
    errors += [np.abs(found.scores[where] - found.indirect_effect[where] - low) for where in right]
    largest = max(high, low, *(p.max() for p in right.values()))
    return float(max(errors)) / pair.probability_scale(largest)
