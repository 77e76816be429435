"""What new queries or keys do to an attention pattern, times the pattern's gradient: AtP*'s QK fix.

A softmax that is nearly one or nearly zero has no gradient to speak of, though another query or key would turn it over.
So the softmax is taken anew with that one vector replaced, and only what the pattern does next is made straight:
`sum over keys of gradient[query, key] * (new pattern - old pattern)` (Kramar et al. 2024, arXiv:2403.00745, sec. 3.1).

All arrays are NumPy's, float64: scores `[B, heads, T queries, T keys]`, -inf where a key is masked.
"""

from __future__ import annotations

import numpy as np


def queries_replaced(
    scores: np.ndarray, new: np.ndarray, gradient: np.ndarray, sinks: np.ndarray | None = None
):
    """What each query does `[B, T, heads]` whose row of scores becomes that of `new`.

    gradient: of the pattern, as scores. sinks: `[heads]`, the score of a key that has no value.
    """
    change = softmax(new, sinks) - softmax(scores, sinks)
    return np.einsum("bhqk,bhqk->bqh", np.where(change == 0, 0, gradient), change)


def keys_replaced(scores: np.ndarray, new: np.ndarray, gradient: np.ndarray, sinks: np.ndarray | None = None):
    """What each key does `[B, T, heads]` whose column of scores becomes that of `new`, the others as they are.

    With L the log of what the other keys of a row sum up to, the key's weight is sigmoid(score - L); what it gains, the
    others lose in proportion. So a row does `(new weight - old weight) * (its gradient - the others' mean gradient)`.
    """
    if sinks is not None:  # one more key, whose gradient is 0
        sink = np.broadcast_to(sinks[None, :, None, None], (*scores.shape[:-1], 1))
        scores, new = (np.concatenate([x, sink], -1) for x in (scores, new))
        gradient = np.concatenate([gradient, np.zeros(sink.shape)], -1)
    total, mean = _others(scores, gradient)
    with np.errstate(invalid="ignore"):  # -inf less -inf: a key that is masked, or alone
        gained = _sigmoid(new - total) - _sigmoid(scores - total)
    done = np.where(np.isfinite(scores) & np.isfinite(total), gained * (gradient - mean), 0).sum(2)
    return done.swapaxes(1, 2) if sinks is None else done.swapaxes(1, 2)[:, :-1]


def softmax(scores: np.ndarray, sinks: np.ndarray | None = None) -> np.ndarray:
    """The pattern of some scores; a sink takes its share of a row and is left out."""
    top = scores.max(-1, keepdims=True)
    if sinks is not None:
        top = np.maximum(top, sinks[None, :, None, None])
    top = np.where(np.isfinite(top), top, 0)
    weights = np.exp(scores - top)
    total = weights.sum(-1, keepdims=True)
    if sinks is not None:
        total = total + np.exp(sinks[None, :, None, None] - top)
    return weights / np.where(total == 0, 1, total)


def _others(scores: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each key of a row, the log of the sum of the others' exponentials, and their weighted mean gradient.

    The largest is left out of a sum by summing without it: taking it away again would leave nothing but rounding.
    """
    place = scores.argmax(-1, keepdims=True)
    top = np.take_along_axis(scores, place, -1)
    without = scores.copy()
    np.put_along_axis(without, place, -np.inf, -1)
    second = without.max(-1, keepdims=True)
    sums = [_weighed(scores, top, gradient), _weighed(without, second, gradient)]
    (weights, total, weighed), (_, rest, rest_weighed) = sums
    left = total - weights
    found = np.log(np.maximum(left, np.finfo(float).tiny)) + np.where(np.isfinite(top), top, -np.inf)
    mean = (weighed - gradient * weights) / np.where(left == 0, 1, left)
    with np.errstate(divide="ignore"):
        alone = np.log(rest) + second
    np.put_along_axis(found, place, alone, -1)
    np.put_along_axis(mean, place, rest_weighed / np.where(rest == 0, 1, rest), -1)
    return found, mean


def _weighed(scores: np.ndarray, top: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, ...]:
    weights = np.exp(scores - np.where(np.isfinite(top), top, 0))
    return weights, weights.sum(-1, keepdims=True), (weights * gradient).sum(-1, keepdims=True)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    """Of any number, infinite ones included, without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))
