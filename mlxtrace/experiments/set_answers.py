"""The answers and the metric of a set of pairs, settled on its plain runs before anything is patched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .answers import Answers, answers_of, recovery, several
from .pair_sets import PairSet, each, named
from .source_models import ONE_MODEL
from .sweeps import plain_logits


@dataclass(frozen=True)
class SetAnswers:
    """For every pair its answers as token ids (a foil is None where both prompts have one answer), and the metric."""

    targets: list[Any]
    foils: list[Any]
    metric: Any
    notes: list[str]


def answers_of_set(
    model: Any, made: PairSet, metric: Any, recovered: bool = True, across: Any = ONE_MODEL
) -> SetAnswers:
    """Run all prompts plainly; one error that names every pair whose answers cannot be what the metric needs.

    "auto" is kl when no pair's corrupted run has lost the answer, else prob. recovered: a recovery is wanted, and
    EffectError raised when the metric hardly moves on average. across: the models of the clean and of the corrupted
    runs, where these are two.
    """
    clean = plain_logits(across.clean or model, [pair.clean for pair in made.pairs])
    corrupted = plain_logits(across.corrupted or model, [pair.corrupted for pair in made.pairs])

    def read(i: int) -> Answers:
        return answers_of(model, made.pairs[i], made.targets[i], made.foils[i], clean[i], corrupted[i])

    answers = each(made.ids, made.alone, read)
    restored = all(found.restored for found in answers)
    wanted = [("kl" if restored else "prob") if _is_auto(m) else m for m in several(metric)]
    each(made.ids, made.alone, lambda i: answers[i].check([m for m in wanted if isinstance(m, str)]))
    for one in wanted:
        if recovered and not getattr(one, "every_position", False):
            _check_gap(answers, one, clean, corrupted)
    targets = [found.target.token for found in answers]
    foils = [
        None if found.same and given is None else found.foil.token
        for found, given in zip(answers, made.foils, strict=True)
    ]
    same = [id for id, found in zip(made.ids, answers, strict=True) if found.same]
    notes = [f"{named(same, made.ids)} with one answer to both prompts"] if same else []
    if restored and any(map(_is_auto, several(metric))):
        notes.append(
            "no corrupted prompt lost its pair's answer, so that kl is measured, not its probability"
        )
    return SetAnswers(targets, foils, wanted if isinstance(metric, list | tuple) else wanted[0], notes)


def _is_auto(metric: Any) -> bool:
    return isinstance(metric, str) and metric == "auto"


def _check_gap(
    answers: Sequence[Answers], metric: Any, clean: Sequence[np.ndarray], corrupted: Sequence[np.ndarray]
) -> None:
    """EffectError when clean and corrupted values, averaged over the set, are too close."""
    bound = [found.bind(metric, logits[0]) for found, logits in zip(answers, clean, strict=True)]
    high, low = (
        float(np.mean([measure(logits).mean() for measure, logits in zip(bound, runs, strict=True)]))
        for runs in (clean, corrupted)
    )
    recovery(low, high, low, bound[0].name)
