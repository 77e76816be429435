"""A pair: a clean and a corrupted prompt with their answers, as it is written down. Many of them are a set.

Pair("The Louvre is in", "The Colosseum is in", target=" Paris", foil=" Rome", subject="Louvre")
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from .prompt import PromptLike


@dataclass(frozen=True)
class Pair:
    """A clean and a corrupted prompt, their answers, and the regions of the clean one.

    Args:
        clean: The prompt whose answer we want back: text, ids, an array, a `Prompt`, or the messages of a chat.
        corrupted: The broken prompt; None where a corruption is named for the whole set (`GaussianNoise`).
        target: The answer, as text (" Paris"), a token id, or the ids of its tokens; None: the clean run's top token.
        foil: The other answer; None: the corrupted run's top token.
        subject: Text in the clean prompt, or positions; None: where the two prompts differ.
        regions: `{name: where}` in the clean prompt: a text (its first occurrence), `[text, k]` (its k-th), or
            positions (an int, a list; negative ones count from the end). Without any, a token's role counts:
            subject first, middle and last, first subsequent, further, last.
        id: A name, another for each pair of a set; "" for its number.
        answers: In the target's place: several answers that are right, whose probabilities are added.

    Example:
        >>> from mlxtrace.prompts import Pair
        >>> pair = Pair("The Louvre is in the city of", "The Colosseum is in the city of", target=" Paris")
        >>> pair.target, pair.foil
        (' Paris', None)
    """

    clean: PromptLike
    corrupted: PromptLike | None = None
    target: str | int | Sequence[int] | None = None
    foil: str | int | Sequence[int] | None = None
    subject: Any = None
    regions: Mapping[str, Any] = field(default_factory=dict, hash=False)
    id: str = ""
    answers: Sequence[Any] = ()


@dataclass(frozen=True)
class AnyOf:
    """Several answers that are right, where one is taken otherwise: each as text, a token id, or ids."""

    answers: tuple[Any, ...]

    def __repr__(self) -> str:
        return " or ".join(f'"{one}"' if isinstance(one, str) else str(one) for one in self.answers)


def any_of(answers: Any, target: Any = None) -> AnyOf:
    """Several answers as they were given; InputError where they are no list, or there is a target as well."""
    if target is not None:
        raise InputError(
            f"answers= takes the place of target=, but {target!r} is given as well: give one of them"
        )
    if isinstance(answers, str | int) or not isinstance(answers, Iterable):
        raise InputError(
            f'answers is a list of answers that are right, not {answers!r}: [" Paris", " France"]'
        )
    listed = tuple(tuple(one) if isinstance(one, list) else one for one in answers)
    if not listed:
        raise InputError("answers is empty: give one answer at least")
    return AnyOf(listed)


def right_answer(one: Pair) -> Any:
    """What a pair says is right: its target, or `AnyOf` several answers."""
    return any_of(one.answers, one.target) if len(one.answers) else one.target


def with_answers(targets: list[Any], answers: Any, alone: bool) -> list[Any]:
    """The targets, or in their place several answers that are right: the same for all pairs, or a list for each."""
    given = list(any_of(answers, targets[0]).answers)
    nested = [isinstance(one, Sequence) and not isinstance(one, str) for one in given]
    if alone or not all(nested):
        return [AnyOf(tuple(given))] * len(targets)
    if not all(isinstance(part, str | list | tuple) for one in given for part in one):
        raise InputError(
            f"answers={answers!r} could be answers of several tokens for all pairs, or token ids for each: give texts, "
            "or each pair's own with prompts.Pair(answers=...)"
        )
    if len(given) != len(targets):
        raise InputError(f"answers has {len(given)} lists for {len(targets)} pairs: give one for each")
    return [any_of(one) for one in given]
