"""What an experiment measures: its answers and metrics, on the two plain runs.

asked = measured(model, both, "auto", None, None)
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import metrics
from ..engine.runs import capture
from ..errors import InputError
from ..results.patching_result import Answer
from .pairs import Pair
from .protocol import TracedModel


@dataclass(frozen=True)
class Measured:
    """The metrics of an experiment, bound, and their values on the two plain runs."""

    metrics: list[metrics.Metric]
    target: Answer
    foil: Answer | None
    clean: dict[str, float]
    corrupted: dict[str, float]
    notes: tuple[str, ...] = ()

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Values `[metrics, rows]` of logits `[rows, V]`, or `[rows, T, V]` when a metric sees every position."""
        last = logits[:, -1] if logits.ndim == 3 else logits
        return np.stack([metric(logits if metric.every_position else last) for metric in self.metrics])


def measured(
    model: TracedModel,
    both: Pair,
    metric: Any,
    target: Any,
    foil: Any,
    stacklevel: int = 3,
    logits: tuple[np.ndarray, np.ndarray] | None = None,
) -> Measured:
    """Settle answers and metrics, and refuse a gap that means nothing.

    logits: last-position logits `[rows, V]` of the clean and the corrupted run; run here when not given.
    """
    ask = [None if x is None else model.answer_token(x, both.clean_prompt) for x in (target, foil)]
    if logits is None:
        logits = tuple(capture(model.resolver, run, [])[0] for run in (both.clean, both.corrupted))
    whole, (clean, corrupted) = logits, (x[:, -1] if x.ndim == 3 else x for x in logits)
    clean_p, corrupted_p = metrics.softmax(clean[0]), metrics.softmax(corrupted).mean(0)
    answer = int(clean_p.argmax()) if ask[0] is None else ask[0]
    other = int(corrupted_p.argmax()) if ask[1] is None else ask[1]

    def as_answer(token: int) -> Answer:
        return Answer(token, model.token_to_str(token), float(clean_p[token]), float(corrupted_p[token]))

    notes: list[str] = []
    wanted = metric if isinstance(metric, (list, tuple)) else [metric]
    same = int(corrupted_p.argmax()) == answer and corrupted_p[answer] > 0.8 * clean_p[answer]
    if "auto" in [m for m in wanted if isinstance(m, str)]:
        wanted = [("kl" if same else "prob") if isinstance(m, str) and m == "auto" else m for m in wanted]
        if same:
            notes.append(_same_answer(as_answer(answer)))
            warnings.warn(notes[-1], stacklevel=stacklevel)
    distinct = other if other != answer or ask[1] is not None else None
    against = [m for m in wanted if isinstance(m, str) and m in metrics.NEED_FOIL]
    if distinct is None and against:
        raise InputError(
            f"{against[0]} sets two answers against each other, but both are {model.token_to_str(answer)!r}: "
            "pass foil= (or target=), or take metric='kl'"
        )
    bound = metrics.bind_all(
        wanted, target=answer, foil=distinct, clean_logits=clean[0], every_clean_logits=whole[0][0]
    )
    both_runs = [whole if m.every_position else (clean, corrupted) for m in bound]
    values = {
        m.name: (float(m(a)[0]), float(m(b).mean())) for m, (a, b) in zip(bound, both_runs, strict=True)
    }
    for name, (a, b) in values.items():
        metrics.recovery(b, a, b, name)
    return Measured(
        bound,
        as_answer(answer),
        None if distinct is None else as_answer(distinct),
        {name: a for name, (a, _) in values.items()},
        {name: b for name, (_, b) in values.items()},
        tuple(notes),
    )


def _same_answer(answer: Answer) -> str:
    return (
        f"the corrupted prompt has the same answer, {answer.text!r} (probability {answer.corrupted_prob:.3f} "
        f"against {answer.clean_prob:.3f} clean), so its probability cannot show a recovery: measuring kl, the "
        "distance to the clean distribution, instead. For a recovery of the answer, choose a corrupted prompt "
        "whose answer differs; pass metric= to silence this"
    )
