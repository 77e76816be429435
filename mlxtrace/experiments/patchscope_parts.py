"""What patchscopes share: the two prompts, the positions that are read and written, and the answer that is followed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine.runs import Run, capture
from ..engine.top_tokens import Said, read
from .lens_sites import Prompt, PromptLike, TracedModel, one_position, texts_of

# Of the paper (section 4.1): a prompt whose continuation repeats what stands in the place of the question mark.
IDENTITY = "cat -> cat; 1135 -> 1135; hello -> hello; ?"


@dataclass(frozen=True)
class Scope:
    """A source prompt read at a position, a target prompt written at one, and the answer's tokens.

    said: the model's own next token after the source prompt up to that position, and its probability.
    """

    source: Prompt
    source_position: int
    target: Prompt
    target_position: int
    answer: tuple[int, ...]
    said: tuple[int, float]

    @property
    def run(self) -> Run:
        """The target prompt with all but the last token of the answer behind it."""
        return Run((*self.target.ids, *self.answer[:-1]))

    def read(self, logits: np.ndarray, k: int) -> Said:
        """What logits `[rows, tokens of the answer, V]` say: the likeliest first tokens; of the whole answer its
        probability, and the largest rank of its tokens.
        """
        each = [read(logits[:, i], k, token) for i, token in enumerate(self.answer)]
        prob, rank = np.prod([x.prob for x in each], axis=0), np.max([x.rank for x in each], axis=0)
        return Said(each[0].ids, each[0].probabilities, prob, rank)

    def words(self, model: TracedModel, ids: Any) -> dict[str, Any]:
        """What every result says of the prompts, the answer and its tokens."""
        token, probability = self.said
        texts = texts_of(model, [token, *self.answer, *np.unique(ids).tolist()])
        return {
            "answer": "".join(texts[t] for t in self.answer),
            "answer_ids": list(self.answer),
            "texts": texts,
            "source": self.source.text,
            "source_tokens": list(self.source.tokens),
            "source_position": self.source_position,
            "source_said": texts[token],
            "source_prob": probability,
            "target_prompt": self.target.text,
            "target_tokens": list(self.target.tokens),
            "target_position": self.target_position,
            "model": model.name,
        }

    @property
    def notes(self) -> list[str]:
        """What is odd about the place that is written."""
        mark = self.target.special.get(self.target_position)
        return [f"the target position holds a special token ({mark})"] if mark else []


def scope_of(
    model: TracedModel,
    source: PromptLike,
    source_position: Any,
    target_prompt: PromptLike | None,
    target_position: Any,
    answer: Any,
) -> Scope:
    """Everything that was asked for, read and checked. answer: None for what the model says after the source."""
    given, aim = model.prompt(source), model.prompt(IDENTITY if target_prompt is None else target_prompt)
    i = one_position("source_position", source_position, given)
    j = one_position("target_position", target_position, aim)
    tokens = None if answer is None else tuple(int(t) for t in model.answer_tokens(answer, aim))
    logits, _ = capture(model.resolver, Run(given.ids[: i + 1]), [])
    said = read(logits, 1)
    top = int(said.ids[0, 0]), float(said.prob[0])
    return Scope(given, i, aim, j, tokens or top[:1], top)


def measure_of(scope: Scope) -> Callable[[np.ndarray], np.ndarray]:
    """Of logits `[rows, tokens of the answer, V]`: probability, rank, the likeliest token and its probability."""

    def measure(logits: np.ndarray) -> np.ndarray:
        said = scope.read(logits, 1)
        return np.stack([said.prob, said.rank, said.ids[:, 0], said.probabilities[:, 0]]).astype(np.float64)

    return measure
