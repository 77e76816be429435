"""The laws of noise on embeddings: one seed gives one run, and the draw is that of the published code."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.runs import Run, capture
from ..experiments.noise import GaussianNoise, embedding_std, noised_run
from .law import DoesNotApply, Measurement, law, relative_error
from .model_under_test import LENGTH, SUBJECT, ModelUnderTest
from .pair_by_hand import NOISE_SEED, SAMPLES, PairByHand, drawn_by_hand, embedding_std_by_hand


def _noised_run(tested: ModelUnderTest, level: float | str = "s3") -> Run:
    noise = GaussianNoise(SUBJECT, level, samples=2)
    return noised_run(tested.model, list(tested.ids), SUBJECT, noise, embedding_std(tested.model))


@law("noise: one seed, one run; none of it, the plain run", "GaussianNoise and causal traces")
def noise(tested: ModelUnderTest) -> Measurement:
    """Noise on the embeddings of the tokens that differ, drawn twice, and drawn at level 0."""

    def logits(run: Run) -> np.ndarray:
        return np.asarray(capture(tested.resolver, run, [])[0])

    first, second, none = (logits(_noised_run(tested, level)) for level in ("s3", "s3", 0.0))
    plain = np.broadcast_to(logits(Run(tested.ids)), first.shape)
    if not relative_error(first, plain):
        if not relative_error(tested.source.output[:, -1], tested.base.output[:, -1]):
            raise DoesNotApply("the last token depends on nothing of the tokens that were changed")
        return Measurement(float("inf"), 0.0, "noise on the embeddings does not reach the logits")
    if (first != second).any():
        return Measurement(relative_error(first, second), 0.0, "one seed, two results")
    return Measurement(relative_error(none, plain), tested.limit)


@law("noise samples are swept as the loop does", "GaussianNoise and causal traces")
def noise_rows(tested: ModelUnderTest) -> Measurement:
    """Every sample is a row; a few cells by the engine and one at a time."""
    cells = [c for (name, _), c in tested.sweep.cells.items() if name in ("resid_post", "mlp", "attn")][:4]
    if not cells:
        raise DoesNotApply("this model has no site to patch")

    fast, loop = (
        tested.sweep.run(cells, engine, _noised_run(tested), tested.sweep.base).values
        for engine in (tested.sweep.chosen, tested.sweep.plain_loop)
    )
    return Measurement(relative_error(fast, loop), tested.limit)


@law("noise on embeddings, by hand: level, seed, samples, replacing", "GaussianNoise as a corruption")
def noise_by_hand(tested: ModelUnderTest) -> Measurement:
    """Relative, absolute and uniform noise, added and put in place, patched in both directions."""
    layer, std, errors = tested.middle_last()[0], embedding_std_by_hand(tested), []
    component = tested.components_in_all(["resid_post", "mlp", "attn"], [layer])[0]
    each, two = [[p] for p in range(LENGTH)], [[SUBJECT[-1], LENGTH - 1]]
    for level, replace, direction, groups in (
        ("s3", False, "denoise", each),
        ("s1.5", True, "noise", two),
        (2 * std, False, "noise", two),
        (f"u{4 * std!r}", False, "denoise", two),
    ):
        pair = PairByHand(
            tested, [component], [layer], tested.ids, drawn_by_hand(tested, level, replace=replace)
        )
        result = pair.experiment(
            component,
            corrupted=GaussianNoise(SUBJECT, level, SAMPLES, NOISE_SEED, replace),
            layers=layer,
            positions="each" if groups is each else groups[0],
            direction=direction,
        )
        rows = [pair.values(pair.patched(direction, component, [layer], at, at)) for at in groups]
        errors.append(pair.error_of(result, np.array(rows).T))
    return Measurement(max(errors), tested.limit)


@law("samples until cells are known: those of a fixed number", 'samples="until"')
def noise_until(tested: ModelUnderTest) -> Measurement:
    """Each cell's recovery, set against that of a run in which every cell has as many samples."""
    layers = tested.first_middle_last()
    component = tested.components_in_all(["resid_post", "mlp", "attn"], layers)[0]
    pair = PairByHand(tested, [component], layers, tested.ids, drawn_by_hand(tested, "s3"))

    def swept(samples: int | str, within: float | None = None) -> Any:
        noise = GaussianNoise(SUBJECT, "s3", samples, NOISE_SEED, within=within)
        return pair.experiment(
            component, corrupted=noise, layers=layers, positions=[SUBJECT[-1]], metric="logit"
        )

    found, errors = swept("until", 25.0), [0.0]
    for n in np.unique(found.samples).tolist():
        fixed, had = swept(n), found.samples == n
        moved = np.abs(found.recovery - fixed.recovery)[had].max() / 100 * abs(fixed.clean - fixed.corrupted)
        errors.append(float(moved) / pair.scale)
    return Measurement(max(errors), tested.limit)
