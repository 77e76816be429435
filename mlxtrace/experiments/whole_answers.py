"""Answers of several tokens, scored whole: they are run behind the prompt, and each token's log-probability is added.

    asked = asked_of(model, pair, " New York", " Paris")
    measured = settle_whole(model, pair, "prob", None, None, logits, asked=asked)
    measured.target.tokens, measured.clean["prob"]

With a prompt P and an answer a1 a2 a3, the run is P a1 a2: its last three positions say how likely each token is behind
those before it. Answers that part before their last tokens need a run each, rows of one sweep (see `sweeps.Job`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import metrics
from ..errors import InputError
from .answers import (
    AlignedPair,
    Answer,
    Measured,
    TracedModel,
    answer_token,
    begins,
    chosen_metrics,
    one_or_another,
    quoted,
    recovery,
)
from .answers import Answers as Answers
from .answers import answers_of as answers_of
from .answers import settle as settle
from .answers import several as several
from .asked_answers import Asked as Asked
from .asked_answers import Tokens
from .asked_answers import asked_of as asked_of
from .asked_answers import asked_of_pairs as asked_of_pairs


@dataclass(frozen=True)
class Scoring:
    """How likely a run makes the target and the foil, from the logits of the last positions.

    target, foil: the answers, in tokens. contexts: what was run behind the prompt.
    """

    target: tuple[Tokens, ...]
    foil: tuple[Tokens, ...]
    contexts: tuple[Tokens, ...]

    @property
    def read(self) -> int:
        """The positions that are read: the prompt's last, and those behind it."""
        return 1 + max(map(len, self.contexts))

    def window(self, logits: np.ndarray) -> np.ndarray:
        """The logits `[..., read, V]` of these positions, of a sweep that reads them or all."""
        return logits[..., None, :] if self.read == 1 and logits.ndim == 2 else logits[..., -self.read :, :]

    def home(self, answer: Tokens) -> int:
        """The context in which an answer is scored."""
        return next(i for i, context in enumerate(self.contexts) if begins(answer[:-1], context))

    def logprobs(self, context: int, window: np.ndarray) -> np.ndarray:
        """Log-probabilities `[2, rows]` of target and foil, of what this context scores; -inf where that is nothing."""
        return np.stack([self._added(answers, context, window) for answers in (self.target, self.foil)])

    def _added(self, answers: Iterable[Tokens], context: int, window: np.ndarray) -> np.ndarray:
        found = [answer_logprob(window, answer) for answer in answers if self.home(answer) == context]
        return np.logaddexp.reduce(found) if found else np.full(len(window), -np.inf)


def answer_logprob(window: np.ndarray, answer: Tokens) -> np.ndarray:
    """The log-probability `[rows]` of an answer: the sum over its tokens. window: logits `[rows, positions, V]`."""
    formula, vocab_size = metrics.METRICS["logprob"].formula, window.shape[-1]
    total = np.zeros(len(window))
    for i, token in enumerate(answer):
        of_token = metrics.Metric("logprob", functools.partial(formula, target=token), vocab_size)
        total += of_token(window[:, i])
    return total


@dataclass(frozen=True)
class WholeMeasured(Measured):
    """The metrics of whole answers. A sweep over several contexts has each context's `part`, and they are `combined`.

    places: by metric the one position whose logits it looks at, from the prompt's last; None: it is of probabilities.
    """

    scoring: Any = None
    places: tuple[int | None, ...] = ()

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Values `[metrics, rows]` of the only context."""
        return self.combined([self.part(0)(logits)])

    @property
    def words(self) -> dict[str, str]:
        derived = [m.name for m, place in zip(self.metrics, self.places, strict=True) if place is None]
        kinds = [metrics.METRICS[name] for name in derived]
        return {kind.name: kind.words_whole for kind in kinds if kind.words_whole}

    def of(self, stack: np.ndarray) -> np.ndarray:
        """Values `[metrics, rows]` of plain runs `[contexts, rows, ...]`."""
        return self.combined([self.part(i)(logits) for i, logits in enumerate(by_context(stack))])

    def part(self, context: int) -> Callable[[np.ndarray], np.ndarray]:
        """What a context's rows are measured with: `[2 + metrics, rows]`."""

        def measure(logits: np.ndarray) -> np.ndarray:
            window = self.scoring.window(logits)
            found = list(self.scoring.logprobs(context, window))
            for metric, place in zip(self.metrics, self.places, strict=True):
                if place is None or context:
                    found.append(np.zeros(len(logits)))
                elif metric.every_position:
                    found.append(metric(logits[:, : logits.shape[1] + 1 - self.scoring.read]))
                else:
                    found.append(metric(window[:, place]))
            return np.stack(found)

        return measure

    def combined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The metrics' values of the parts `[2 + metrics, ...]` of every context."""
        target, foil = np.logaddexp.reduce([part[:2] for part in parts])
        n, values = len(self.scoring.target[0]), []
        for i, (metric, place) in enumerate(zip(self.metrics, self.places, strict=True)):
            whole = None if place is not None else metrics.METRICS[metric.name].whole
            values.append(parts[0][2 + i] if whole is None else whole(np, target, foil, n))
        return np.stack(values)


def by_context(stack: np.ndarray) -> np.ndarray:
    """Plain runs' logits as `[contexts, rows, ...]`: those of one position have no axis for contexts."""
    return stack if stack.ndim == 4 else stack[None]


def answers_whole(
    model: TracedModel, pair: AlignedPair, asked: Asked, clean: np.ndarray, corrupted: np.ndarray
) -> tuple[Answers, Scoring]:
    """The answers of a pair with their probabilities in both runs, whose logits are `[contexts, rows, ...]`."""
    blank = Scoring((), (), asked.contexts)
    windows = [[blank.window(logits) for logits in by_context(stack)] for stack in (clean, corrupted)]
    first = [window[0][:, 0] for window in windows]
    target = asked.target or ((answer_token(model, None, pair.clean_prompt, first[0]),),)
    foil = asked.foil or (answer_token(model, None, pair.corrupted_prompt, first[1]),)
    scoring = Scoring(target, (foil,), asked.contexts)
    probs = []  # of target and foil, by run
    for window in windows:
        parts = [scoring.logprobs(i, logits) for i, logits in enumerate(window)]
        probs.append(np.exp(np.logaddexp.reduce(parts)).mean(-1))
    (ours, theirs), others = zip(*probs, strict=True), target[1:]
    told = one_or_another([_text(model, pair.clean_prompt, answer) for answer in target])
    said = any(_said(scoring, answer, windows[1]) for answer in target) and ours[1] > 0.8 * ours[0]
    answers = Answers(
        Answer(target[0][0], told, float(ours[0]), float(ours[1]), target[0], others),
        Answer(foil[0], _text(model, pair.corrupted_prompt, foil), float(theirs[0]), float(theirs[1]), foil),
        said,
    )
    return answers, scoring


def _said(scoring: Scoring, answer: Tokens, window: Sequence[np.ndarray]) -> bool:
    """Whether the likeliest token, over the samples, is the answer's at each step."""
    logits = window[scoring.home(answer)]
    tops = (int(metrics.softmax(logits[:, i]).mean(0).argmax()) for i in range(len(answer)))
    return all(top == token for top, token in zip(tops, answer, strict=True))


def _text(model: TracedModel, prompt: Any, answer: Tokens) -> str:
    """What the tokens of an answer read as behind a prompt."""
    whole = model.to_str_tokens([*prompt.ids, *answer])
    return model.token_to_str(answer[0]) if len(answer) == 1 else "".join(whole[len(prompt) :])


def settle_whole(
    model: TracedModel,
    pair: AlignedPair,
    metric: Any,
    target: Any,
    foil: Any,
    logits: tuple[np.ndarray, np.ndarray],
    alone: bool = True,
    asked: Asked | None = None,
) -> Measured:
    """As `answers.settle`, and of whole answers where they were asked for; target and foil are then those."""
    if asked is None:
        return settle(model, pair, metric, target, foil, logits, alone)
    answers, scoring = answers_whole(model, pair, asked, *logits)
    wanted, notes = chosen_metrics(metric, answers)
    given = asked.foil is not None
    measured = whole_measure(model, wanted, answers, scoring, logits[0], given)
    distinct = None if answers.same and not given else answers.foil
    clean, corrupted = (
        {m.name: float(x) for m, x in zip(measured.metrics, measured.of(stack).mean(-1), strict=True)}
        for stack in logits
    )
    for name in clean if alone else ():
        recovery(corrupted[name], clean[name], corrupted[name], name)
    return replace(measured, foil=distinct, clean=clean, corrupted=corrupted, notes=tuple(notes))


def whole_measure(
    model: TracedModel,
    wanted: Sequence[Any],
    answers: Answers,
    scoring: Scoring,
    clean: np.ndarray,
    foil_given: bool,
) -> WholeMeasured:
    """The metrics of whole answers, without their values. clean: the clean run's logits `[contexts, rows, ...]`."""
    answers.check([m for m in wanted if isinstance(m, str)])
    bound, places = _bound(wanted, scoring, clean, foil_given)
    remarks = _remarks(model, bound, places, answers, scoring)
    return WholeMeasured(bound, answers.target, answers.foil, {}, {}, (), remarks, scoring, tuple(places))


def _bound(
    wanted: Sequence[Any], scoring: Scoring, stack: np.ndarray, foil_given: bool
) -> tuple[list[Any], list[int | None]]:
    """The metrics, bound, and for each the position whose logits it looks at; None: at none alone."""
    clean = by_context(stack)[0][0]  # of the first row, [positions, V]
    window = scoring.window(clean[None])[0]
    every = clean[: len(clean) + 1 - scoring.read] if clean.ndim == 2 else None
    target, foil = scoring.target[0], scoring.foil[0]
    bound, places = [], []
    for metric in wanted:
        kind = metrics.METRICS.get(metric) if isinstance(metric, str) else None
        place = None if kind is not None and kind.whole is not None else 0
        if kind is not None:
            _check_whole(kind, scoring)
        if kind is not None and kind.name == "rank" and foil_given:
            place = _parting(target, foil)
        one = metrics.bind(
            metric if place is not None else "prob",
            target=target[place or 0],
            foil=None,
            clean_logits=window[place or 0],
            every_clean_logits=every,
        )
        bound.append(one if place is not None else replace(one, name=metric))
        places.append(place)
    return metrics.named_apart(wanted, bound), places


def _check_whole(kind: metrics.MetricKind, scoring: Scoring) -> None:
    """InputError for a metric that whole answers, or several of them, do not have."""
    several, lengths = len(scoring.target) > 1, {len(answer) for answer in scoring.target}
    whole = several or max(lengths) > 1
    if whole and kind.whole is None and "target" in kind.needs and (kind.name != "rank" or several):
        what = "several answers have" if several else "an answer of several tokens has"
        raise InputError(
            f"{kind.name} is of one token, and {what} none: use logprob, prob or logit_diff, or give one token"
        )
    if kind.name == "logprob_mean" and len(lengths) > 1:
        raise InputError(
            f"logprob_mean is per token, but the answers have {sorted(lengths)} tokens: use logprob or prob"
        )


def _parting(target: Tokens, foil: Tokens) -> int:
    """The first of the target's tokens that is not the foil's there; its last where the foil goes on."""
    same = [a == b for a, b in zip(target, foil, strict=False)]
    return min(same.index(False) if False in same else len(foil), len(target) - 1)


def _remarks(
    model: TracedModel, bound: Sequence[Any], places: Sequence[int | None], answers: Answers, scoring: Scoring
) -> tuple[str, ...]:
    """What must be said of the numbers: how answers of several tokens are scored, and what metrics are of them."""
    said, target = [], scoring.target[0]
    if len(scoring.target) > 1:
        said.append(
            f"{len(scoring.target)} answers count as right, {quoted(answers.target.text)}: their probabilities are "
            "added"
        )
    long = {
        a.text: len(a.tokens) for a in (answers.target, answers.foil) if len(a.tokens) > 1 and not a.others
    }
    if long or any(len(answer) > 1 for answer in scoring.target):
        told = ", ".join(f"{quoted(text)} {n} tokens" for text, n in long.items())
        said.append(
            f"answers are scored whole, each token behind those before it{': ' if told else ''}{told}"
        )
    for metric, place in zip(bound, places, strict=True):
        words = metrics.METRICS[metric.name].words_whole if place is None else ""
        if words:
            said.append(f"{metric.name} is the {words} of target and foil: several tokens have no logit")
        if metric.name == "rank":
            said.append(
                f"rank is that of {quoted(model.token_to_str(target[place or 0]))}, one token of the target"
            )
        elif place == 0 and not metric.every_position:
            said.append(f"{metric.name} looks at the position after the prompt alone")
    return tuple(said)
