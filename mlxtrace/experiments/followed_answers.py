"""The answer whose probability is followed on one prompt: a token, or whole answers behind the prompt.

followed = Followed(model, prompt, " New York")         # or Followed(model, prompt, answers=[" Paris", " France"])
measured = followed.measured(followed.logits(run))      # as `one_answer` gives it
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .answers import OneAnswer, one_answer, probability, quoted
from .pair_sets import uncorrupted, with_answers
from .sweeps import Job, Run, continued_logits
from .whole_answers import Asked, answers_whole, asked_of, by_context, metrics, whole_measure


@dataclass(frozen=True)
class OneWhole(OneAnswer):
    """The same of whole answers; a sweep over several contexts has each context's part (see `WholeMeasured`)."""

    answered: Any = None
    whole: Any = None

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        return self.whole(logits)

    def of(self, stack: np.ndarray) -> np.ndarray:
        """Its probability `[1, rows]` in plain runs, `[contexts, rows, ...]`."""
        return self.whole.of(stack)

    def part(self, context: int) -> Any:
        return self.whole.part(context)

    def combined(self, parts: Any) -> np.ndarray:
        return self.whole.combined(parts)

    def answer(self, clean_prob: float, corrupted_prob: float) -> Any:
        return replace(self.answered, clean_prob=clean_prob, corrupted_prob=corrupted_prob)


class Followed:
    """Which answer of a prompt is followed, and what is run behind the prompt for it.

    Args:
        pair: the prompt as a pair with itself.
        target: the answer, `AnyOf` several, or None for the likeliest token.
    """

    def __init__(self, model: Any, pair: Any, target: Any = None):
        self.model, self.pair, self.target = model, pair, target
        self.asked: Asked | None = None if target is None else asked_of(model, pair, target, None)

    @classmethod
    def of_prompt(cls, model: Any, prompt: Any, target: Any, answers: Any = None) -> Followed:
        """Of a prompt that was read; answers: several that are right, in the target's place."""
        right = target if answers is None else with_answers([target], answers, True)[0]
        return cls(model, uncorrupted(prompt), right)

    @property
    def contexts(self) -> tuple[tuple[int, ...], ...]:
        return ((),) if self.asked is None else self.asked.contexts

    def job(self, base: Run, source: Run, cells: list[Any]) -> Job:
        return Job(base, source, cells, self.contexts)

    def logits(self, run: Run) -> np.ndarray:
        """A plain run's logits, as a sweep gives them."""
        return continued_logits(self.model, run, self.contexts)

    def measured(self, clean: np.ndarray) -> OneAnswer:
        """What is measured, of the clean run's logits."""
        prompt = self.pair.clean_prompt
        if self.asked is None:
            return one_answer(self.model, self.target, prompt, clean)
        answers, scoring = answers_whole(self.model, self.pair, self.asked, clean, clean)
        whole = whole_measure(self.model, ["prob"], answers, scoring, clean, False)
        return OneWhole(
            answers.target.token,
            answers.target.text,
            whole.metrics[0],
            self._notes(answers.target, scoring, clean) + list(whole.remarks),
            answers.target,
            whole,
        )

    def value(self, measured: OneAnswer, logits: np.ndarray) -> float:
        """The mean probability in a plain run's logits."""
        found = measured.of(logits) if isinstance(measured, OneWhole) else measured(logits)
        return float(found.mean())

    def rows(self, measured: OneAnswer, logits: list[np.ndarray]) -> np.ndarray:
        """Its probability `[1, rows]` in rows that were run with each context behind them."""
        if isinstance(measured, OneWhole):
            return measured.combined([measured.part(i)(x) for i, x in enumerate(logits)])
        return measured(logits[0])

    def _notes(self, target: Any, scoring: Any, clean: np.ndarray) -> list[str]:
        """That the model says something else, and behind which tokens of the answer."""
        windows, tokens = [scoring.window(logits) for logits in by_context(clean)], target.tokens
        if target.others:
            return []
        logits = windows[scoring.home(tokens)][0]
        tops = [int(x.argmax()) for x in logits[: len(tokens)]]
        parts = [top != token for top, token in zip(tops, tokens, strict=True)]
        if True not in parts:
            return []
        i = parts.index(True)
        likely = probability(metrics.softmax(logits[i])[tops[i]])
        said = f"{quoted(self.model.token_to_str(tops[i]))} ({likely})"
        if not i:
            return [f"the model's own answer is {said} at its first token, not {quoted(target.text)}"]
        before = quoted("".join(self.model.token_to_str(token) for token in tokens[:i]))
        return [f"behind {before} the model says {said}, not the rest of {quoted(target.text)}"]
