"""A clean and a corrupted run of a model, by hand, and what experiments on the two must give."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from .law import DoesNotApply, largest
from .metric_formulas import metric_values
from .model_under_test import SUBJECT, ModelUnderTest
from .pass_by_hand import INSIDE as INSIDE
from .pass_by_hand import Noise, Write

METRICS = ("logit", "logit_diff")
NOISE_SEED, SAMPLES = 7, 2
LEAST_GAP = 2e-3  # between the runs' logits: recoveries over less are refused


class PairByHand:
    """Two runs of a model by hand, clean and corrupted, with the components that experiments patch.

    corrupted: ids, the tested model's other prompt by default. noises: one for each sample of a corrupted run with
    noise on its embeddings. clean_by, corrupted_by: another `ModelByHand` that makes that run. DoesNotApply where the
    two runs hardly differ.
    """

    def __init__(
        self,
        tested: ModelUnderTest,
        components: Iterable[str],
        layers: Iterable[int] | None = None,
        corrupted: Sequence[int] | None = None,
        noises: Sequence[Noise] | None = None,
        clean_by: Any = None,
        corrupted_by: Any = None,
    ):
        self.model, self.by_hand, self.clean = tested.model, tested.by_hand, list(tested.ids)
        self.corrupted = list(tested.other if corrupted is None else corrupted)
        self.noises: list[Noise | None] = [*noises] if noises else [None]
        layers = list(tested.all_layers if layers is None else layers)
        names = [(c, i) for c in components for i in layers if (c, i) in self.by_hand.places]
        clean_by, corrupted_by = clean_by or self.by_hand, corrupted_by or self.by_hand
        logits, self.clean_activations = clean_by.run(self.clean, keep=names)
        self.clean_logits = logits[-1]
        runs = [corrupted_by.run(self.corrupted, noise=noise, keep=names) for noise in self.noises]
        self.corrupted_logits = np.stack([x[-1] for x, _ in runs])
        self.corrupted_activations = [kept for _, kept in runs]
        gaps = np.where(np.isfinite(self.clean_logits), self.clean_logits - self.corrupted_logits.mean(0), 0)
        self.target, self.foil = int(gaps.argmax()), int(gaps.argmin())
        if min(abs(gaps[self.target]), abs(gaps[self.foil])) < LEAST_GAP:
            raise DoesNotApply("the last token depends on next to nothing of the tokens that were changed")
        self.top = int(self.clean_logits.argmax())
        self.scale = largest(self.clean_logits)

    def patched(
        self,
        direction: str,
        component: str,
        layers: Iterable[int],
        at: Sequence[int],
        source_at: Sequence[int],
        heads: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Last-position logits `[samples, V]` with a component of some layers patched, by hand."""
        layers = list(layers)

        def writes(values: dict) -> list[Write]:
            return [Write(component, i, at, values[component, i], source_at, heads) for i in layers]

        if direction == "denoise":
            clean = writes(self.clean_activations)
            return np.stack([self.by_hand.run(self.corrupted, clean, noise)[0][-1] for noise in self.noises])
        rows = [self.by_hand.run(self.clean, writes(kept))[0][-1] for kept in self.corrupted_activations]
        return np.stack(rows)

    def values(self, logits: np.ndarray, metrics: Sequence[str] = METRICS) -> np.ndarray:
        """Means over the samples `[metrics]`."""
        return np.array([self.value(logits, name).mean() for name in metrics])

    def value(self, logits: np.ndarray, metric: str) -> np.ndarray:
        """A metric of every sample."""
        return metric_values(metric, logits, self.clean_logits, self.target, self.foil)

    def plain_values(self, metric: str) -> tuple[float, float]:
        """A metric of the clean and of the corrupted run, with nothing patched."""
        clean = float(self.value(self.clean_logits[None], metric).mean())
        return clean, float(self.value(self.corrupted_logits, metric).mean())

    def answer_probability(self, logits: np.ndarray) -> np.ndarray:
        """The probability of the clean run's own answer, which is large enough to be compared."""
        return metric_values("prob", logits, self.clean_logits, self.top, self.foil)

    def probability_scale(self, largest_probability: float) -> float:
        """What a probability moves when logits move by their largest: twice itself times that."""
        return 2 * float(largest_probability) * max(self.scale, 1.0)

    def experiment(self, component: Any, **options: Any) -> Any:
        """Activation patching of the two runs as a user asks for it."""
        corrupted = options.pop("corrupted", self.corrupted)
        options = {"metric": list(METRICS), "target": self.target, "foil": self.foil, **options}
        return self.model.activation_patching(self.clean, corrupted, component, progress=False, **options)

    def error_of(self, result: Any, values: np.ndarray) -> float:
        """The largest error of an experiment's numbers, relative to the largest logit.

        Its values, those of the two plain runs, and the recoveries, by the formula of the README. values: those by
        hand, `[components, METRICS, ...]`.
        """
        if values.size != result.raw.size:
            return float("inf")
        raw, errors = values.reshape(result.raw.shape), []
        axis = result.dims.index("metric")
        for i, name in enumerate(METRICS):
            clean, corrupted = self.plain_values(name)
            errors += [abs(result.clean[name] - clean), abs(result.corrupted[name] - corrupted)]
            found, right, recovery = (np.take(x, i, axis) for x in (result.raw, raw, result.recovery))
            errors.append(np.abs(found - right).max())
            share = (right - corrupted) / (clean - corrupted)
            errors.append(np.abs(recovery / 100 - share).max() * abs(clean - corrupted))
        return float(np.max(errors)) / self.scale


def window_of(layer: int, width: int, n_layers: int) -> list[int]:
    """`width` layers centred at one, the extra one of an even number before it; cut at the ends."""
    first = layer - width // 2
    return [i for i in range(first, first + width) if 0 <= i < n_layers]


# ---- noise


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
