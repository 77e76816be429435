"""The level of a run's noise: one for all its prompts, from the embeddings of all their subjects, as published."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ..errors import TokenError
from ..experiments.noise import GaussianNoise, published_scale


def level_of_run(
    model: Any, noise: GaussianNoise, subjects: Sequence[str] | None
) -> tuple[Any, Any, list[str]]:
    """The level that every prompt's noise has, what the settings of a run say of it, and notes.

    subjects: of all prompts, each tokenized alone, as in the authors' code; None: the whole embedding table counts.
    """
    std, notes = published_scale(model, noise, None if subjects is None else _readable(model, subjects))
    if std is None:
        return noise.level, str(noise.parsed_level), notes
    level = noise.parsed_level.value * std
    return level, float(level), notes


def _readable(model: Any, subjects: Sequence[str]) -> Sequence[Any]:
    """The ids of the subjects that the tokenizer can read; an item of another one is skipped when its turn comes."""
    found = {}
    for subject in set(subjects):
        with suppress(TokenError):
            found[subject] = model.ids(subject)
    return [found[subject] for subject in subjects if subject in found] or subjects
