"""Which tokens the answers of a pair are, and what is run behind its prompts to score them.

asked = asked_of(model, pair, " New York", " Paris")        # None where each answer is one token
asked.target, asked.foil                                    # their tokens
asked.contexts                                              # what is run behind the prompts: the token of " New"
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, TokenError, UnsupportedError
from .answers import begins
from .pair_sets import AnyOf, PairSet, each
from .sweeps import is_causal

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Asked:
    """The answers that were asked for on a pair, in tokens; None for the likeliest token of a run.

    target: every answer that is right: their probabilities are added.
    """

    target: tuple[Tokens, ...] | None
    foil: Tokens | None

    @functools.cached_property
    def contexts(self) -> tuple[Tokens, ...]:
        """What is run behind the prompt: of each answer all tokens but the last, and none that begins another."""
        given = [*(self.target or ()), *([self.foil] if self.foil else [])]
        wanted = list(dict.fromkeys(answer[:-1] for answer in given))
        longest = [c for c in wanted if not any(c != other and begins(c, other) for other in wanted)]
        return tuple(longest) or ((),)


def asked_of_pairs(model: Any, made: PairSet) -> list[Asked | None]:
    """The answers of every pair that has one of several tokens, or several answers; None for the others."""

    def read(i: int) -> Asked | None:
        return asked_of(model, made.pairs[i], made.targets[i], made.foils[i])

    return each(made.ids, made.alone, read)


def asked_of(model: Any, pair: Any, target: Any, foil: Any) -> Asked | None:
    """The answers of a pair, each read behind its own prompt; None where they are one token each."""
    if isinstance(foil, AnyOf):
        raise InputError("several answers that are right are the target's: a foil is one answer")
    right = target.answers if isinstance(target, AnyOf) else () if target is None else (target,)
    found = tuple(model.answer_tokens(answer, pair.clean_prompt) for answer in right)
    other = None if foil is None else model.answer_tokens(foil, pair.corrupted_prompt)
    _check_apart(right, found)
    asked = Asked(found or None, other)
    if not isinstance(target, AnyOf) and asked.contexts == ((),):
        return None
    _check_room(model, pair, asked.contexts)
    return asked


def _check_apart(given: Sequence[Any], found: Sequence[Tokens]) -> None:
    """InputError when one of several right answers begins another: its probability is part of the other's."""
    for i, one in enumerate(found):
        for j, other in enumerate(found):
            if i != j and begins(one, other):
                said = (
                    "are the same tokens" if one == other else "count twice: the second begins with the first"
                )
                raise InputError(f"answers {given[i]!r} and {given[j]!r} {said}; leave one of them out")


def _check_room(model: Any, pair: Any, contexts: Sequence[Tokens]) -> None:
    """One error for what cannot be run behind the prompts."""
    if contexts == ((),):
        return
    if not is_causal(model):
        raise UnsupportedError(
            f"{model.name} looks at later tokens, so an answer that is run behind the prompt would be seen by it, and "
            "its tokens have no probabilities one after the other: give an answer of one token"
        )
    for prompt in (pair.clean_prompt, pair.corrupted_prompt):
        for context in contexts:
            try:
                model.ids([*prompt.ids, *context])
            except TokenError as error:
                raise TokenError(
                    f"the prompt cannot be run with the first {len(context)} tokens of the answer behind it: {error}"
                ) from error
