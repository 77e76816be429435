"""The answers and the metric of a set of pairs, settled on its plain runs before anything is patched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .pair_sets import PairSet, each, named
from .sweeps import continued_logits, plain_logits
from .whole_answers import Answers, Asked, answers_of, answers_whole, recovery, settle_whole, several

FIRST = 10  # samples that settle a set's answers, where cells get as many as it takes


@dataclass(frozen=True)
class SetAnswers:
    """For every pair its answers as token ids (a foil is None where both prompts have one answer), and the metric.

    asked: of every pair whose answers are scored whole these, in tokens.
    """

    targets: list[Any]
    foils: list[Any]
    metric: Any
    notes: list[str]
    asked: Sequence[Asked | None] = ()


def answers_of_set(
    model: Any,
    made: PairSet,
    metric: Any,
    recovered: bool = True,
    asked: Sequence[Asked | None] = (),
    models: tuple[Any, Any] = (None, None),
) -> SetAnswers:
    """Run all prompts plainly; one error that names every pair whose answers cannot be what the metric needs.

    "auto" is kl when no pair's corrupted run has lost the answer, else prob. recovered: a recovery is wanted, and
    EffectError raised when the metric hardly moves on average. asked: the answers that are scored whole, by pair.
    models: of the clean and of the corrupted runs, where these are two.
    """
    asked = asked or [None] * len(made.pairs)
    clean = _plain_logits(models[0] or model, [pair.clean for pair in made.pairs], asked)
    corrupted = _plain_logits(models[1] or model, [pair.corrupted for pair in made.pairs], asked)

    def read(i: int) -> Answers:
        whole = asked[i]
        if whole is not None:
            return answers_whole(model, made.pairs[i], whole, clean[i], corrupted[i])[0]
        return answers_of(model, made.pairs[i], made.targets[i], made.foils[i], clean[i], corrupted[i])

    answers = each(made.ids, made.alone, read)
    restored = all(found.restored for found in answers)
    wanted = [("kl" if restored else "prob") if _is_auto(m) else m for m in several(metric)]
    each(made.ids, made.alone, lambda i: answers[i].check([m for m in wanted if isinstance(m, str)]))
    for one in wanted:
        if recovered and not getattr(one, "every_position", False):
            _check_gap(_values(model, made, answers, one, (clean, corrupted), asked))
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
    wholes = [
        None if one is None else replace(one, target=found.target.all, foil=one.foil and found.foil.tokens)
        for one, found in zip(asked, answers, strict=True)
    ]
    return SetAnswers(
        targets, foils, wanted if isinstance(metric, list | tuple) else wanted[0], notes, wholes
    )


def _is_auto(metric: Any) -> bool:
    return isinstance(metric, str) and metric == "auto"


def _plain_logits(model: Any, runs: Sequence[Any], asked: Sequence[Asked | None]) -> list[np.ndarray]:
    """Plain runs' logits, as a sweep of each pair gives them; with the first samples where noise is drawn in rounds."""
    runs = [run.part(0, FIRST) if hasattr(run, "within") else run for run in runs]
    found: dict[int, np.ndarray] = {}
    single = [i for i, one in enumerate(asked) if one is None]
    found.update(zip(single, plain_logits(model, [runs[i] for i in single]), strict=True))
    for i, one in enumerate(asked):
        if one is not None:
            found[i] = continued_logits(model, runs[i], one.contexts)
    return [found[i] for i in range(len(runs))]


def _values(
    model: Any,
    made: PairSet,
    answers: Sequence[Answers],
    metric: Any,
    runs: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
    asked: Sequence[Asked | None],
) -> tuple[list[float], list[float], str]:
    """A metric's value in every pair's clean and corrupted run, and its name."""
    values: tuple[list[float], list[float]] = ([], [])
    name = ""
    for i, found in enumerate(answers):
        logits = runs[0][i], runs[1][i]
        if asked[i] is None:
            bound = found.bind(metric, logits[0][0])
            own, name = tuple(float(bound(x).mean()) for x in logits), bound.name
        else:
            one = settle_whole(model, made.pairs[i], metric, None, None, logits, False, asked[i])
            name = one.metrics[0].name
            own = one.clean[name], one.corrupted[name]
        for of_run, value in zip(values, own, strict=True):
            of_run.append(value)
    return *values, name


def _check_gap(values: tuple[list[float], list[float], str]) -> None:
    """EffectError when clean and corrupted values, averaged over the set, are too close."""
    high, low = (float(np.mean(of_run)) for of_run in values[:2])
    recovery(low, high, low, values[2])
