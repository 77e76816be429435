"""What gradients are taken of where answers of several tokens are scored: metrics of MLX logits, by context.

    measure = slope(measured, 0)                    # of all contexts' rows together, context after context
    measure(logits)                                 # [contexts * rows, read, V] -> [contexts * rows]
    slope_of_context(measured, 0, 1, base)          # of one context's rows, the others' as they are in the base run

`measured` is what `whole_answers.settled` gives; its `scoring` says which context scores which answer, and without one
there is a single context, whose metrics have gradients of their own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from ..metrics import METRICS

Measure = Callable[[mx.array], mx.array]
Tokens = tuple[int, ...]


def slope(measured: Any, number: int, name: str | None = None) -> Measure | None:
    """A metric of the rows of all contexts; None where it has no gradient.

    Each row of the first context has the value of what it is in all contexts, and the rows of the others have 0.

    number: of the metric. name: another metric of the answers' probabilities in its place.
    """
    metric = measured.metrics[number]
    if not hasattr(measured, "scoring"):
        return metric.gradient
    place, scoring = measured.places[number], measured.scoring
    n = len(scoring.contexts)
    if place is not None and metric.gradient is None:
        return None

    def total(logits: mx.array) -> mx.array:
        parts = _by_context(logits, n, scoring.read)
        if place is not None:
            values = metric.gradient(parts[0][:, place])
        else:
            values = _whole(scoring, name or metric.name, parts)
        return mx.concatenate([values, mx.zeros((n - 1) * len(values))]) if n > 1 else values

    return total


def slope_of_context(measured: Any, number: int, context: int, base: np.ndarray) -> Measure | None:
    """A metric of the rows of one context; None where it has no gradient.

    What other contexts score counts as it is in the base run: the gradients of all contexts add up to the metric's.

    base: its logits, by context `[contexts, rows, read, V]`.
    """
    metric = measured.metrics[number]
    if not hasattr(measured, "scoring"):
        return metric.gradient
    place, scoring = measured.places[number], measured.scoring
    if place is not None and metric.gradient is None:
        return None

    def total(logits: mx.array) -> mx.array:
        (own,) = _by_context(logits, 1, scoring.read)
        if place is not None:
            return metric.gradient(own[:, place]) if context == 0 else mx.zeros(len(own))
        parts = [own if i == context else _rows_of(x, len(own)) for i, x in enumerate(base)]
        return _whole(scoring, metric.name, parts)

    return total


def _rows_of(x: np.ndarray, rows: int) -> mx.array:
    """The base run's rows, again and again where the rows of a pass are more."""
    return mx.array(x[np.arange(rows) % len(x)])


def _by_context(logits: mx.array, contexts: int, read: int) -> list[mx.array]:
    """The logits of each context's rows, `[rows, read, V]`."""
    return list(logits.reshape(contexts, -1, read, logits.shape[-1]))


def _whole(scoring: Any, name: str, parts: Sequence[mx.array]) -> mx.array:
    """A metric of the answers' log-probabilities."""
    target = _any_of(scoring, scoring.target, parts)
    foil = _any_of(scoring, scoring.foil, parts)
    whole = METRICS[name].whole
    assert whole is not None, "metrics of one position have a place"
    return whole(mx, target, foil, len(scoring.target[0]))


def _any_of(scoring: Any, answers: Iterable[Tokens], parts: Sequence[mx.array]) -> mx.array:
    """The log-probability `[rows]` that any of some answers is said."""
    logprob = METRICS["logprob"].gradient
    assert logprob is not None, "it has one"

    def said(answer: Tokens) -> mx.array:
        logits = parts[scoring.home(answer)]
        found = [logprob(logits[:, i], target=token) for i, token in enumerate(answer)]
        return functools.reduce(mx.add, found)

    return functools.reduce(mx.logaddexp, map(said, answers))
