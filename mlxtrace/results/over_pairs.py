"""What is said of many pairs together: the texts and answers that they share, and notes on what their means hide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .intervals import FEW, mean_of
from .one_kind import notes_over, shared, some


def plan_of(singles: Sequence[Any]) -> Any:
    """The plan that all share; else all of theirs."""
    plans = [single.plan for single in singles]
    return plans[0] if all(plan is plans[0] for plan in plans) else plans


def several(texts: Sequence[str], what: str = "prompts") -> str:
    """One text for all: how many there are, and the first."""
    return texts[0] if len(set(texts)) == 1 else f"{len(texts)} {what}, the first: {texts[0]}"


def texts_of(singles: Sequence[Any]) -> dict[str, Any]:
    """What titles and captions say of the prompts: what all share, and of the texts the first."""
    first = singles[0].settings
    settings = {k: v for k, v in first.items() if all(single.settings.get(k) == v for single in singles)}
    if "corruption" in first:
        settings["corruption"] = several([s.settings.get("corruption", "") for s in singles], "corruptions")
    return {
        "tokens": tokens_of([single.tokens for single in singles]),
        "corrupted_tokens": tokens_of([single.corrupted_tokens for single in singles]),
        "subject_range": shared([single.subject_range for single in singles]),
        "clean_text": several([single.clean_text for single in singles]),
        "corrupted_text": several([single.corrupted_text for single in singles]),
        "target": answer_of([single.target for single in singles]),
        "foil": answer_of([single.foil for single in singles]),
        "settings": settings,
    }


def tokens_of(texts: Sequence[Sequence[str]]) -> list[str]:
    """The tokens by position: "…" where they differ, and none where the prompts are of several lengths."""
    if len({len(tokens) for tokens in texts}) > 1:
        return []
    return [tokens[0] if len(set(tokens)) == 1 else "…" for tokens in zip(*texts, strict=True)]


def answer_of(answers: Sequence[Any]) -> Any:
    """The answer that all pairs have, with mean probabilities; None when they have several."""
    there = [answer for answer in answers if answer is not None]
    if len(there) < len(answers) or len({answer.all for answer in there}) > 1:
        return None
    names = ("clean_prob", "corrupted_prob")
    means = {name: float(np.mean([getattr(answer, name) for answer in there])) for name in names}
    return replace(there[0], **means)


def notes_of(singles: Sequence[Any]) -> list[str]:
    """What the pairs' own results note, and that there are few pairs."""
    return [*notes_over([single.notes for single in singles]), *notes_of_number(len(singles))]


def notes_of_number(n: int) -> list[str]:
    """That there are few pairs, or one."""
    if n == 1:
        return ["there is one pair, so there are no intervals"]
    if n < FEW:
        return [f"with {n} pairs, 1.96 standard errors are too narrow for a 95 % interval"]
    return []


def note_of_regions(regions: Sequence[str], n: np.ndarray, axis: int) -> list[str]:
    """How many pairs have each region, where they differ; n: pairs per cell, with the regions on an axis."""
    counts = np.moveaxis(n, axis, 0).reshape(len(regions), -1)[:, 0]
    if counts.min() == counts.max():
        return []
    told = ", ".join(f"{region} {count}" for region, count in zip(regions, counts, strict=True))
    return [f"pairs by region: {told}"]


def notes_of_gaps(gaps: Mapping[str, np.ndarray], ids: Sequence[str], small: Sequence[str]) -> list[str]:
    """Pairs whose gap means nothing by itself or goes the other way, and means that the pairs hardly agree on.

    gaps: for each metric every pair's clean - corrupted. small: the ids of those that mean nothing.
    """
    notes = []
    if small:
        notes.append(
            f"{len(small)} of {len(ids)} pairs have a gap too small to mean anything by itself; they count in "
            f"the means: {some(small)}"
        )
    for metric, values in gaps.items():
        mean, half, _ = mean_of(values)
        other_way = [name for name, gap in zip(ids, values, strict=True) if gap * mean < 0]
        if other_way:
            notes.append(
                f"the gap of {metric} goes the other way in {len(other_way)} pairs: {some(other_way)}"
            )
        if half > abs(mean):
            notes.append(
                f"the mean gap of {metric} is {mean:z.4g} ± {half:z.2g}: recoveries mean little over it"
            )
    return notes
