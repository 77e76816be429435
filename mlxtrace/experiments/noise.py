"""Noise on a subject's embeddings, as experiments take it: its scale on this model, and the run that has it.

std, notes = published_scale(model, noise, subjects)
run = noised_run(model, prompt.ids, prompt.subject, noise, std)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..engine import embeddings
from ..engine.corruption import GaussianNoise, InputError, Substitution, noise_array
from ..engine.runs import Run
from .protocol import TracedModel

__all__ = [
    "GaussianNoise",
    "Substitution",
    "UntilRun",
    "embedding_std",
    "noised_run",
    "published_scale",
    "samples_in_words",
    "table_scale",
    "two_draws",
]
ADVICE = " (published traces take it from the data set's subjects: subjects=[...])"


@dataclasses.dataclass(frozen=True)
class UntilRun(Run):
    """A run with all samples of noise that may be drawn, of which cells get as many as it takes.

    within: how narrow the cells' intervals are to be, in percentage points of recovery.
    """

    within: float = 0.0

    @property
    def rows(self) -> int:
        """It is run in parts only: InputError for an experiment that asks for all of it."""
        raise InputError(
            'samples="until" is drawn round by round, by activation_patching and causal_trace alone: give a number of '
            "samples here"
        )

    def part(self, begin: int, end: int) -> Run:
        """The run with some of its samples."""
        return Run(self.ids, np.asarray(self.noise)[begin:end], self.noised, self.replace)


def noised_run(
    model: TracedModel, ids: Sequence[int], where: range, noise: GaussianNoise, std: float | None
) -> Run:
    """The prompt with noise on the embeddings at `where`, one row per sample; of "until" an `UntilRun`."""
    array = noise_array(noise, len(where), model.d_model, std)
    if noise.within is None:
        return Run(tuple(ids), array, tuple(where), noise.replace)
    return UntilRun(tuple(ids), array, tuple(where), noise.replace, noise.within)


def samples_in_words(noise: GaussianNoise) -> str:
    """How many samples there are, as titles say it."""
    if noise.within is None:
        return f"{noise.samples} samples"
    return f"samples until within {noise.within:g} points"


def two_draws(
    model: TracedModel, ids: Sequence[int], where: range, noise: GaussianNoise, std: float | None
) -> tuple[Run, Run]:
    """Two such runs: one with the generator's first `samples` draws, and one with the next."""
    if noise.within is not None:
        raise InputError(
            'samples="until" has no next draws for severed_noise="next": give severed_noise="same", or a number of '
            "samples"
        )
    drawn = noised_run(model, ids, where, dataclasses.replace(noise, samples=2 * noise.most), std)
    first, second = np.split(np.asarray(drawn.noise), 2)
    return dataclasses.replace(drawn, noise=first), dataclasses.replace(drawn, noise=second)


def table_scale(model: TracedModel, noise: GaussianNoise) -> tuple[float | None, str]:
    """The standard deviation that "s" levels multiply, of the whole embedding table, and a note; None for others."""
    if noise.parsed_level.kind != "s":
        return None, ""
    std = embedding_std(model)
    return std, f"noise scale from the whole embedding table: std {std:.4g}"


def published_scale(
    model: TracedModel, noise: GaussianNoise, subjects: Sequence[str] | None
) -> tuple[float | None, list[str]]:
    """The same from the embeddings of a data set's subjects, as published; from the table when there are none."""
    if noise.parsed_level.kind != "s":
        return None, []
    if subjects is None:
        std, note = table_scale(model, noise)
        return std, [note + ADVICE]
    std = embeddings.subjects_std(model.resolver.get_embedding_layer(), model.tokenizer, subjects)
    return std, [f"noise scale from the embeddings of {len(subjects)} subjects: std {std:.4g}"]


def embedding_std(model: TracedModel) -> float:
    """The standard deviation of the whole embedding table, dequantized; measured anew when its numbers changed."""
    module = model.resolver.get_embedding_layer()
    key = embeddings.table_key(module)
    known = model.resolver.measured.setdefault("table_std", {})
    if key not in known:
        known.clear()
        known[key] = embeddings.table_std(module)
    return known[key]
