"""The last logits of many prompts: those of one length are rows of a batch, and no more is kept than is asked for.

says = of_each(model, prompts, lambda i, p: int(p.argmax()))     # the token that each is followed by
said = continued(model, prompts, answers)                        # how likely each continues with all of an answer
said[0].logprob, said[0].whole
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..engine.runs import Run, capture
from ..metrics import log_softmax, softmax

ROWS, TOKENS = 64, 4096  # the most in a batch
T = TypeVar("T")


def of_each(model: Any, prompts: Sequence[Any], of: Callable[[int, np.ndarray], T]) -> list[T]:
    """`of(i, probabilities)` for each prompt: the float64 probabilities `[V]` of what follows prompt i.

    A batch rounds otherwise than a single prompt does, in the last digits of float32.
    """
    found: dict[int, T] = {}
    for batch in batches([len(prompt) for prompt in prompts]):
        logits = capture(model.resolver, tuple(Run(tuple(prompts[i].ids)) for i in batch), [])[0]
        for i, row in zip(batch, softmax(logits), strict=True):
            found[i] = of(i, row)
    return [found[i] for i in range(len(prompts))]


@dataclass(frozen=True)
class Continued:
    """A prompt with an answer behind it, whose tokens are forced: what the model makes of each of them.

    logprobs: float64 `[k]`, of each of the answer's tokens behind those before it. tops, likeliest: what it would say
    there, and the log-probability of that.
    """

    tokens: tuple[int, ...]
    logprobs: np.ndarray
    tops: tuple[int, ...]
    likeliest: np.ndarray

    @property
    def logprob(self) -> float:
        """Of the whole answer."""
        return float(self.logprobs.sum())

    @property
    def said(self) -> int:
        """How many of the answer's tokens the model says, one after the other, before it says another."""
        same = [token == top for token, top in zip(self.tokens, self.tops, strict=True)]
        return same.index(False) if False in same else len(same)

    @property
    def instead(self) -> tuple[list[int], float]:
        """What it says, up to the token that is another than the answer's, and the log-probability of that."""
        n = self.said
        if self.whole:
            return list(self.tokens), self.logprob
        return [*self.tokens[:n], self.tops[n]], float(self.logprobs[:n].sum() + self.likeliest[n])

    @property
    def whole(self) -> bool:
        """Whether it says all of the answer."""
        return self.tokens == self.tops


def continued(model: Any, prompts: Sequence[Any], answers: Sequence[Sequence[int]]) -> list[Continued]:
    """Of each prompt how the model continues with an answer, given as tokens; TokenError where there is no room."""
    runs = [[*prompt.ids, *answer[:-1]] for prompt, answer in zip(prompts, answers, strict=True)]
    for ids in runs:
        model.ids(ids)
    found: dict[int, Continued] = {}
    for k in {len(answer) for answer in answers}:
        alike = [i for i, answer in enumerate(answers) if len(answer) == k]
        for batch in batches([len(runs[i]) for i in alike]):
            some = [alike[i] for i in batch]
            logits = capture(model.resolver, tuple(Run(tuple(runs[i])) for i in some), [], read=k)[0]
            for i, row in zip(some, logits.reshape(len(some), k, -1), strict=True):
                found[i] = _continued(tuple(answers[i]), log_softmax(row))
    return [found[i] for i in range(len(runs))]


def _continued(answer: tuple[int, ...], likely: np.ndarray) -> Continued:
    """What log-probabilities `[k, V]` make of an answer."""
    tops = tuple(int(top) for top in likely.argmax(-1))
    return Continued(answer, likely[np.arange(len(answer)), list(answer)], tops, likely.max(-1))


def text_behind(model: Any, prompt: Any, tokens: Sequence[int]) -> str:
    """What some tokens read as behind a prompt; one token as it stands inside a sentence."""
    if len(tokens) == 1:
        return model.token_to_str(tokens[0])
    return model.decode([*prompt.ids, *tokens])[len(model.decode(prompt.ids)) :]


def batches(lengths: Sequence[int]) -> list[list[int]]:
    """The numbers of prompts that are run together: of one length, and not too many."""
    made = []
    for length in sorted(set(lengths)):
        same, most = [i for i, n in enumerate(lengths) if n == length], max(1, min(ROWS, TOKENS // length))
        made += [same[i : i + most] for i in range(0, len(same), most)]
    return made
