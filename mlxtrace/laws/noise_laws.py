"""The laws of noise on embeddings: one seed gives one run, and the draw is that of the published code."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from ..engine.choice import choose
from ..engine.corruption import GaussianNoise
from ..engine.runs import Run, capture
from ..engine.sweep import Engine, Sweep
from ..experiments.pairs import embedding_std, noised_run
from .law import DoesNotApply, Measurement, law
from .model_under_test import LENGTH, SUBJECT, ModelUnderTest
from .pair_by_hand import PairByHand
from .pass_by_hand import Noise
from .relative_error import relative_error

NOISE_SEED, SAMPLES = 7, 2


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


@law("noise samples are swept as the textbook does", "GaussianNoise and causal traces")
def noise_rows(tested: ModelUnderTest) -> Measurement:
    """Every sample is a row; a few cells by the engine and one at a time."""
    cells = [c for (name, _), c in tested.sweep.cells.items() if name in ("resid_post", "mlp", "attn")][:4]
    if not cells:
        raise DoesNotApply("this model has no site to patch")

    def logits(engine: Engine) -> np.ndarray:
        sweep = Sweep(tested.resolver, _noised_run(tested), Run(tested.ids), cells, engine)
        return sweep.run(lambda logits: logits.T.astype(np.float64), progress=False).values

    fast, loop = logits(choose(tested.resolver)), logits(Engine("loop", causal=False))
    return Measurement(relative_error(fast, loop), tested.limit)


# ---- by hand


def embedding_std_by_hand(tested: ModelUnderTest) -> float:
    """The unbiased standard deviation of what the embedding module gives for all tokens, in float64."""
    module = tested.by_hand.modules[tested.by_hand.embed]
    count, total, squares = 0, 0.0, 0.0
    for begin in range(0, tested.model.vocab_size, 4096):
        ids = mx.arange(begin, min(begin + 4096, tested.model.vocab_size))
        rows = np.array(module(ids).astype(mx.float32), dtype=np.float64)
        count, total, squares = count + rows.size, total + rows.sum(), squares + (rows**2).sum()
    return float(np.sqrt((squares - total**2 / count) / (count - 1)))


def drawn_by_hand(
    tested: ModelUnderTest, level: str | float, samples: int = SAMPLES, replace: bool = False
) -> list[Noise]:
    """The noise on the subject's tokens, as the authors' code draws it: one for each sample."""
    random, shape = np.random.RandomState(NOISE_SEED), (samples, len(SUBJECT), tested.model.d_model)
    if isinstance(level, str) and level[0] == "u":
        values = random.uniform(-1, 1, shape) * float(level[1:])
    elif isinstance(level, str):
        values = random.randn(*shape) * (float(level[1:]) * embedding_std_by_hand(tested))
    else:
        values = random.randn(*shape) * level
    return [Noise(list(SUBJECT), sample, replace) for sample in values]


@law("noise on embeddings, by hand: level, seed, samples, replacing", "GaussianNoise as a corruption")
def noise_by_hand(tested: ModelUnderTest) -> Measurement:
    """Relative, absolute and uniform noise, added and put in place, patched in both directions."""
    layer, std, errors = tested.middle_last()[0], embedding_std_by_hand(tested), []
    component = tested.components_in_all(["resid_post", "mlp", "attn"], [layer])[0]
    for level, replace, direction, positions in (
        ("s3", False, "denoise", "each"),
        ("s1.5", True, "noise", [SUBJECT[-1], LENGTH - 1]),
        (2 * std, False, "noise", [SUBJECT[-1], LENGTH - 1]),
        (f"u{4 * std!r}", False, "denoise", [SUBJECT[-1], LENGTH - 1]),
    ):
        pair = PairByHand(
            tested, [component], [layer], tested.ids, drawn_by_hand(tested, level, replace=replace)
        )
        result = pair.experiment(
            component,
            corrupted=GaussianNoise(SUBJECT, level, SAMPLES, NOISE_SEED, replace),
            layers=layer,
            positions=positions,
            direction=direction,
        )
        groups = [[p] for p in range(LENGTH)] if positions == "each" else [positions]
        rows = [pair.values(pair.patched(direction, component, [layer], at, at)) for at in groups]
        errors.append(pair.error_of(result, np.array(rows).T))
    return Measurement(max(errors), tested.limit)
