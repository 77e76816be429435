"""What a result is of, whatever its class: the model, the prompts, the answers, and the metric in both runs.

asked = asked_of(result)
asked.clean, asked.answers, asked.gaps
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..plotting.labels import quoted
from ..results.intervals import mean_of


@dataclass(frozen=True)
class Said:
    """An answer and its probability in either run, over a set of pairs its mean; None where it is not known.

    role: "answer" or "foil". text: "" where each pair of a set has its own.
    """

    role: str
    text: str
    clean: float | None
    corrupted: float | None

    @property
    def words(self) -> str:
        return quoted(self.text) if self.text else "each pair's own"


@dataclass(frozen=True)
class Gap:
    """A metric in either run; half: the half-width of its 95 % interval over the pairs, or NaN."""

    metric: str
    clean: float
    corrupted: float
    half: float = float("nan")

    @property
    def size(self) -> float:
        return self.clean - self.corrupted


@dataclass(frozen=True)
class Asked:
    """What a result is of.

    tokens, corrupted_tokens: of the prompts, where they are known. subject: its positions. noise: in words, where the
    corrupted run is the clean prompt with noise. pairs: ids of a set; () for one pair by itself. direction: "denoise",
    "noise" or "" where there is none.
    """

    model: str
    clean: str = ""
    corrupted: str = ""
    tokens: tuple[str, ...] = ()
    corrupted_tokens: tuple[str, ...] = ()
    subject: tuple[int, ...] = ()
    noise: str = ""
    answers: tuple[Said, ...] = ()
    gaps: tuple[Gap, ...] = ()
    pairs: tuple[str, ...] = ()
    direction: str = ""

    @property
    def key(self) -> tuple:
        """What two results share that are of the same question."""
        return self.model, self.clean, "" if self.noise else self.corrupted, self.pairs


def questions_of(asked: Sequence[Asked]) -> list[Asked]:
    """What some results are of, once for those of the same question: with all that any of them knows.

    Args:
        asked: of each result.

    Returns:
        One for each question, in order.
    """
    found = []
    known = [one for one in asked if one.clean] or asked[
        :1
    ]  # circuits and averages do not know their prompts
    for key in dict.fromkeys(one.key for one in known):
        same = [one for one in known if one.key == key]
        tokens = next((one for one in same if one.tokens), same[0])
        answers = next(
            (one.answers for one in same if any(a.clean is not None for a in one.answers)), same[0].answers
        )
        gaps = {gap.metric: gap for one in reversed(same) for gap in one.gaps}
        found.append(replace(tokens, answers=answers, gaps=tuple(gaps.values())))
    return found


def asked_of(result: Any) -> Asked:
    """What a result is of; what its class does not know stays empty.

    Args:
        result: what any experiment returns.

    Returns:
        An `Asked`.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> from mlxtrace.pages.asked import asked_of
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> asked = asked_of(InterpretableModel("demo").activation_patching(*prompts, progress=False))
        >>> asked.model, [said.text for said in asked.answers], asked.direction
        ('demo', [' Paris', ' Rome'], 'denoise')
    """
    one = getattr(result, "first", result)
    one = one if hasattr(one, "model") else result  # of a comparison its first trace
    clean, corrupted = _texts(one)
    settings = getattr(one, "settings", None) or {}
    noise = settings.get("corruption", "")
    if hasattr(one, "low_score") and hasattr(one, "noise_level"):
        noise = f"noise of standard deviation {one.noise_level:.3g}, {one.drawn}"
    alone = getattr(one, "alone", False)
    return Asked(
        model=_model(one, result),
        clean=clean,
        corrupted=corrupted,
        tokens=tuple(getattr(one, "tokens", ()) or ()),
        corrupted_tokens=tuple(getattr(one, "corrupted_tokens", getattr(one, "base_tokens", ())) or ()),
        subject=tuple(getattr(one, "subject_range", None) or ()),
        noise=noise,
        answers=tuple(_answers(one)),
        gaps=tuple(_gaps(one)),
        pairs=() if alone else tuple(_pairs(result)),
        direction=getattr(one, "direction", "denoise" if hasattr(one, "noise_level") else ""),
    )


def _model(one: Any, result: Any) -> str:
    """The model's name, or those of both that are compared."""
    name = getattr(one, "model", "")
    return " and ".join(getattr(result, "names", ())) or (name if isinstance(name, str) else "")


def _pairs(result: Any) -> list[str]:
    """The ids of a set; a causal trace's `ids` are its tokens'."""
    ids = getattr(result, "ids", None)
    return [one for one in ids if isinstance(one, str)] if isinstance(ids, list | tuple) else []


def _texts(one: Any) -> tuple[str, str]:
    if hasattr(one, "clean_texts"):
        more = f"{len(one.clean_texts)} prompts, the first: " if len(one.clean_texts) > 1 else ""
        return tuple(f"{more}{texts[0]}" for texts in (one.clean_texts, one.corrupted_texts))  # type: ignore
    for clean, corrupted in (("clean_text", "corrupted_text"), ("source_text", "base_text")):
        if hasattr(one, clean):
            return getattr(one, clean), getattr(one, corrupted)
    return getattr(one, "prompt", getattr(one, "source", "")), ""


def _answers(one: Any) -> list[Said]:
    if getattr(one, "singles", ()):
        return _answers_of_set(one.singles)
    found = []
    for role, names in (("answer", ("target", "source_answer", "answer")), ("foil", ("foil", "base_answer"))):
        answer: Any = next(
            (getattr(one, name) for name in names if getattr(one, name, None) is not None), None
        )
        if isinstance(answer, str):
            found.append(Said(role, answer, None, None))
        elif hasattr(answer, "clean_prob"):
            found.append(Said(role, answer.text, answer.clean_prob, answer.corrupted_prob))
    for role, name in (("answer", "targets"), ("foil", "foils")):
        texts = list(dict.fromkeys(getattr(one, name, ())))
        found += [Said(role, texts[0], None, None)] if len(texts) == 1 else []
    return found


def _answers_of_set(singles: Sequence[Any]) -> list[Said]:
    """The answers of pairs, with the means of their probabilities; those that every pair has."""
    each = [_answers(single) for single in singles]
    found = []
    for role in ("answer", "foil"):
        same = [said for answers in each for said in answers if said.role == role and said.clean is not None]
        if len(same) == len(singles):
            text = same[0].text if len({said.text for said in same}) == 1 else ""
            ends = [float(np.mean([getattr(said, run) for said in same])) for run in ("clean", "corrupted")]
            found.append(Said(role, text, *ends))
    return found


def _gaps(one: Any) -> list[Gap]:
    if hasattr(one, "high_score"):
        half = float(getattr(one, "total_interval", float("nan")))
        return [Gap("prob", one.high_score, one.low_score, half)]
    if hasattr(one, "source_value"):
        return [Gap(one.metric, one.source_value, one.base_value)]
    if hasattr(one, "noised"):
        return [Gap("prob", one.clean, one.noised)]
    for clean, corrupted in (("_clean", "_corrupted"), ("clean_values", "corrupted_values")):
        if hasattr(one, clean):
            ends = getattr(one, clean), getattr(one, corrupted)
            return [Gap(m, ends[0][m], ends[1][m], _half(one, clean, corrupted, m)) for m in one.metrics]
    if hasattr(one, "metric") and hasattr(one, "clean"):
        differences = np.atleast_1d(np.asarray(one.clean) - np.asarray(one.corrupted))
        half = float(mean_of(differences).half)
        return [Gap(one.metric, float(np.mean(one.clean)), float(np.mean(one.corrupted)), half)]
    return []


def _half(one: Any, clean: str, corrupted: str, metric: str) -> float:
    """The half-width of the 95 % interval of the mean gap of a set's pairs."""
    singles = getattr(one, "singles", ())
    if len(singles) < 2:
        return float("nan")
    gaps = [getattr(single, clean)[metric] - getattr(single, corrupted)[metric] for single in singles]
    return float(mean_of(np.array(gaps)).half)
