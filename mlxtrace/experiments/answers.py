"""What an experiment measures: its answers and metrics, on the two plain runs.

measured = settle(model, pair, "auto", None, None, (clean_logits, corrupted_logits))
measured(logits)                                # [metrics, rows]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import metrics
from ..errors import EffectError, InputError
from ..metrics import Metric, recovery
from ..plotting.labels import one_or_another as one_or_another
from ..plotting.labels import probability, quoted
from ..results.saved import Answer
from .pairs import AlignedPair
from .protocol import TracedModel


def answer_token(model: TracedModel, given: Any, prompt: Any, logits: np.ndarray) -> int:
    """The token of an answer, read as it continues a prompt; the likeliest of a run's logits `[rows, V]` for None.

    InputError for an answer of several tokens: what asks here scores one, and would leave the others out.
    """
    if given is not None:
        token, *more = model.answer_tokens(given, prompt)
        if more:
            raise InputError(
                f"the answer {given!r} has {len(more) + 1} tokens, and here one is scored: give one of a single "
                "token, or use activation_patching, which scores it whole"
            )
        return token
    return int(metrics.softmax(logits).mean(0).argmax())


@dataclass(frozen=True)
class OneAnswer:
    """The answer of an experiment on one prompt, its probability as a metric, and what must be said of it."""

    token: int
    text: str
    probability: Metric
    notes: list[str]

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Its probability in each row, as a sweep measures it: `[1, rows]` of logits `[rows, V]`."""
        return self.probability(logits)[None]

    def answer(self, clean_prob: float, corrupted_prob: float) -> Answer:
        return Answer(self.token, self.text, clean_prob, corrupted_prob)


def one_answer(model: TracedModel, given: Any, prompt: Any, logits: np.ndarray) -> OneAnswer:
    """The answer whose probability is followed, of a clean run with logits `[1, V]`; its likeliest for None."""
    token, top = answer_token(model, given, prompt, logits), int(logits[0].argmax())
    text, notes = model.token_to_str(token), []
    if given is not None and token != top:
        said = f"{quoted(model.token_to_str(top))} ({probability(metrics.softmax(logits[0])[top])})"
        notes = [f"the model's own answer is {said}, not {quoted(text)}"]
    return OneAnswer(
        token, text, metrics.bind("prob", target=token, foil=None, clean_logits=logits[0]), notes
    )


@dataclass(frozen=True)
class Answers:
    """What the clean run says, or what was asked for instead (target), and the same of the corrupted run (foil).

    restored: the corrupted run says the target too, and about as likely: its probability cannot show a recovery.
    """

    target: Answer
    foil: Answer
    restored: bool

    @property
    def same(self) -> bool:
        return self.target.all == self.foil.all

    @property
    def notes(self) -> list[str]:
        """One sentence when both prompts have the same answer."""
        return [f"both prompts have the same answer, {quoted(self.target.text)}"] if self.same else []

    def bind(self, metric: Any, clean_logits: np.ndarray) -> Metric:
        """The metric of the target, set against the foil where it needs two. clean_logits: `[V]`."""
        self.check([metric] if isinstance(metric, str) else [])
        return metrics.bind(metric, target=self.target.token, foil=self.foil.token, clean_logits=clean_logits)

    def check(self, wanted: Iterable[Any]) -> None:
        """EffectError when a metric sets two answers against each other that are one."""
        against = [m for m in wanted if m in metrics.METRICS and "foil" in metrics.METRICS[m].needs]
        theirs = self.foil.tokens
        one = any(begins(ours, theirs) or begins(theirs, ours) for ours in self.target.all)
        if against and one and not self.same:
            raise EffectError(
                f"{against[0]} sets two answers against each other, but of {quoted(self.target.text)} and "
                f"{quoted(self.foil.text)} one is the beginning of the other, so that its probability is part of the "
                "other's: pass a target= and a foil= that part, or use metric='logprob'"
            )
        if self.same and against:
            raise EffectError(
                f"{against[0]} sets two answers against each other, but both are {quoted(self.target.text)}: choose "
                "prompts with different answers, pass target= and foil=, or use metric='kl'"
            )


def begins(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether some tokens are the beginning of others, or all of them."""
    return tuple(other[: len(one)]) == tuple(one)


def answers_of(
    model: TracedModel, pair: AlignedPair, target: Any, foil: Any, clean: np.ndarray, corrupted: np.ndarray
) -> Answers:
    """The answers to a pair of prompts, each read after its own prompt. clean, corrupted: logits `[rows, V]`."""
    tokens = (
        answer_token(model, target, pair.clean_prompt, clean),
        answer_token(model, foil, pair.corrupted_prompt, corrupted),
    )
    clean_p, corrupted_p = (metrics.softmax(logits).mean(0) for logits in (clean, corrupted))
    ours, theirs = (
        Answer(t, model.token_to_str(t), float(clean_p[t]), float(corrupted_p[t])) for t in tokens
    )
    top = int(corrupted_p.argmax()) == ours.token
    return Answers(ours, theirs, top and ours.corrupted_prob > 0.8 * ours.clean_prob)


@dataclass(frozen=True)
class Measured:
    """The metrics of an experiment, bound, and their values on the two plain runs.

    notes: what a user is warned of. remarks: what is said of the numbers beside it.
    """

    metrics: list[Metric]
    target: Answer
    foil: Answer | None
    clean: dict[str, float]
    corrupted: dict[str, float]
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def words(self) -> dict[str, str]:
        """What titles call a metric that is another of these answers than of single tokens."""
        return {}

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Values `[metrics, rows]` of logits `[rows, V]`, or `[rows, T, V]` when a metric sees every position."""
        return np.stack([metric(_seen_by(metric, logits)) for metric in self.metrics])


def probability_of(measured: Any, name: str, logits: np.ndarray) -> np.ndarray:
    """How likely rows make the "target" or the "foil" of what is measured, `[rows]`; logits: as a sweep gives them."""
    scoring = getattr(measured, "scoring", None)
    if scoring is None:
        last = logits[:, -1] if logits.ndim == 3 else logits
        return metrics.softmax(last)[:, [tokens[0] for tokens in getattr(measured, name).all]].sum(-1)
    windows = [scoring.window(rows) for rows in (logits if logits.ndim == 4 else logits[None])]
    parts = [scoring.logprobs(i, window)[int(name == "foil")] for i, window in enumerate(windows)]
    return np.exp(np.logaddexp.reduce(parts))


def settle(
    model: TracedModel,
    pair: AlignedPair,
    metric: Any,
    target: Any,
    foil: Any,
    logits: tuple[np.ndarray, np.ndarray],
    alone: bool = True,
) -> Measured:
    """Settle answers and metrics, and refuse a gap that means nothing.

    logits: of the clean and the corrupted run, `[rows, V]`, or `[rows, T, V]` when a metric sees every position.
    alone: the pair is not one of a set, in which a gap may be small.
    """
    clean, corrupted = (x[:, -1] if x.ndim == 3 else x for x in logits)
    answers = answers_of(model, pair, target, foil, clean, corrupted)
    wanted, notes = chosen_metrics(metric, answers)
    answers.check([m for m in wanted if isinstance(m, str)])
    distinct = None if answers.same and foil is None else answers.foil
    bound = metrics.bind_all(
        wanted,
        target=answers.target.token,
        foil=None if distinct is None else distinct.token,
        clean_logits=clean[0],
        every_clean_logits=logits[0][0],
    )
    values = {m.name: [float(m(_seen_by(m, x)).mean()) for x in logits] for m in bound}
    if alone:
        for name, (a, b) in values.items():
            recovery(b, a, b, name)
    return Measured(
        bound,
        answers.target,
        distinct,
        {name: a for name, (a, _) in values.items()},
        {name: b for name, (_, b) in values.items()},
        tuple(notes),
    )


def _seen_by(metric: Metric, logits: np.ndarray) -> np.ndarray:
    return logits[:, -1] if logits.ndim == 3 and not metric.every_position else logits


def several(metric: Any) -> list[Any]:
    """The metrics of an experiment as a list."""
    return list(metric) if isinstance(metric, list | tuple) else [metric]


def chosen_metrics(metric: Any, answers: Answers) -> tuple[list[Any], list[str]]:
    """The metrics with "auto" resolved, and a note when that is not the answer's probability."""
    wanted = several(metric)
    automatic = [isinstance(m, str) and m == "auto" for m in wanted]
    chosen = "kl" if answers.restored else "prob"
    notes = [_same_answer(answers.target)] if answers.restored and any(automatic) else []
    return [chosen if auto else m for m, auto in zip(wanted, automatic, strict=True)], notes


def _same_answer(answer: Answer) -> str:
    return (
        f"the corrupted prompt has the same answer, {answer.text!r} (probability {answer.corrupted_prob:.3f} "
        f"against {answer.clean_prob:.3f} clean), so its probability cannot show a recovery: measuring kl, the "
        "distance to the clean distribution, instead. For a recovery of the answer, choose a corrupted prompt "
        "whose answer differs; pass metric= to silence this"
    )
