"""The table of metrics: each one's name, formula, words and floor. A new metric is a new entry, and nothing else here.

kind = METRICS["logit_diff"]
kind.words, kind.needs           # "logit difference", ("target", "foil")
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np


def log_softmax(logits: Any) -> np.ndarray:
    """Log-probabilities in nats: `x - log(sum(exp(x)))` over the last axis.

    Args:
        logits: `[..., V]`, of any floating type.

    Returns:
        float64 `[..., V]`.

    Example:
        >>> from mlxtrace import metrics
        >>> metrics.log_softmax([0.0, 0.0]).round(2).tolist()
        [-0.69, -0.69]
    """
    logits = np.asarray(logits, dtype=np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def softmax(logits: Any) -> np.ndarray:
    """Probabilities: `exp(x) / sum(exp(x))` over the last axis.

    Args:
        logits: `[..., V]`, of any floating type.

    Returns:
        float64 `[..., V]`, which sums to 1.

    Example:
        >>> from mlxtrace import metrics
        >>> metrics.softmax([[0.0, 0.0], [1.0, 1.0]]).tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    return np.exp(log_softmax(logits))


@dataclass(frozen=True)
class CleanRun:
    """The logits `[V]` of the clean run's last position, and its distribution for the metrics that compare with it."""

    logits: np.ndarray

    @functools.cached_property
    def possible(self) -> np.ndarray:
        """Which tokens `[V]` have a probability: one of 0 adds 0 to an expectation."""
        return np.isfinite(log_softmax(self.logits))

    @functools.cached_property
    def log_probs(self) -> np.ndarray:
        return log_softmax(self.logits)[self.possible]

    @functools.cached_property
    def probs(self) -> np.ndarray:
        return np.exp(self.log_probs)


@dataclass(frozen=True)
class MetricKind:
    """A metric by name, before it is bound to answers and a clean run.

    Args:
        name: what users call it.
        words: what titles and axes call it.
        formula: float64 logits `[rows, V]`, and what else it names among target and foil (token ids) and clean
            (a `CleanRun`) -> float64 `[rows]`.
        floor: the smallest gap between clean and corrupted that means something, as (absolute, relative to the
            larger value): ten times what float32 arithmetic alone can move, for logits off by 5e-5 at worst, 7e-6
            as measured.
        gradient: the same formula of MLX arrays, float32 `[rows, V]` -> `[rows]`, for what differentiates it; None
            where there is none, or it is flat.
        whole: of answers of several tokens: `(numpy or mlx.core, target's log-probability, foil's, target's number of
            tokens)` -> `[rows]`; None for a metric of the logits at one position.
        words_whole: its words of such answers, where they are others.
    """

    name: str
    words: str
    formula: Callable[..., np.ndarray]
    floor: tuple[float, float]
    gradient: Callable[..., mx.array] | None = None
    whole: Callable[[Any, Any, Any, int], Any] | None = None
    words_whole: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """What the formula takes beside the logits: some of target, foil, clean."""
        return tuple(inspect.signature(self.formula).parameters)[1:]


def _logprob(logits: np.ndarray, token: int) -> np.ndarray:
    top = logits.max(-1)
    shifted = logits - top[:, None]
    return logits[:, token] - (top + np.log(np.exp(shifted, out=shifted).sum(-1)))


def _cosine(logits: np.ndarray, clean: CleanRun) -> np.ndarray:
    return logits @ clean.logits / (np.linalg.norm(logits, axis=-1) * np.linalg.norm(clean.logits))


def _kl(logits: np.ndarray, clean: CleanRun) -> np.ndarray:
    return (clean.probs * (clean.log_probs - log_softmax(logits)[:, clean.possible])).sum(-1)


def _mlx_log_softmax(x: mx.array) -> mx.array:
    shifted = x - mx.stop_gradient(x.max(-1, keepdims=True))
    return shifted - mx.log(mx.exp(shifted).sum(-1, keepdims=True))


def _mlx_logprob(x: mx.array, token: int) -> mx.array:
    return _mlx_log_softmax(x)[:, token]


def _mlx_kl(x: mx.array, clean: CleanRun) -> mx.array:
    possible = mx.array(np.flatnonzero(clean.possible))
    probs, log_probs = (mx.array(found.astype(np.float32)) for found in (clean.probs, clean.log_probs))
    return (probs * (log_probs - _mlx_log_softmax(x)[:, possible])).sum(-1)


def _mlx_norm(x: mx.array) -> mx.array:
    return mx.sqrt(mx.square(x).sum(-1))


def _mlx_cosine(x: mx.array, clean: CleanRun) -> mx.array:
    unit = mx.array((clean.logits / np.linalg.norm(clean.logits)).astype(np.float32))
    return (x * unit).sum(-1) / _mlx_norm(x)


_KINDS = (
    MetricKind(
        "prob",
        "probability",
        lambda x, target: np.exp(_logprob(x, target)),
        floor=(1e-12, 1e-4),  # dp = p (1 - p) dlogit: noise is relative
        gradient=lambda x, target: mx.exp(_mlx_logprob(x, target)),
        whole=lambda xp, target, foil, n: xp.exp(target),
    ),
    MetricKind(
        "logprob",
        "log-probability",
        lambda x, target: _logprob(x, target),
        floor=(5e-4, 0.0),
        gradient=lambda x, target: _mlx_logprob(x, target),
        whole=lambda xp, target, foil, n: target,
    ),
    MetricKind(
        "logprob_mean",
        "log-probability per token",
        lambda x, target: _logprob(x, target),  # of one token
        floor=(5e-4, 0.0),
        gradient=lambda x, target: _mlx_logprob(x, target),
        whole=lambda xp, target, foil, n: target / n,
    ),
    MetricKind(
        "logit",
        "logit",
        lambda x, target: x[:, target].copy(),
        floor=(5e-4, 0.0),
        gradient=lambda x, target: x[:, target],
    ),
    MetricKind(
        "logit_diff",
        "logit difference",
        lambda x, target, foil: x[:, target] - x[:, foil],
        floor=(1e-3, 0.0),  # two logits
        gradient=lambda x, target, foil: x[:, target] - x[:, foil],
        whole=lambda xp, target, foil, n: target - foil,
        words_whole="log-probability difference",  # several tokens have no logit
    ),
    MetricKind(
        "prob_diff",
        "probability difference",
        lambda x, target, foil: np.exp(_logprob(x, target)) - np.exp(_logprob(x, foil)),
        floor=(2e-5, 1e-4),  # two probabilities, off by 2e-6 at worst
        gradient=lambda x, target, foil: mx.exp(_mlx_logprob(x, target)) - mx.exp(_mlx_logprob(x, foil)),
        whole=lambda xp, target, foil, n: xp.exp(target) - xp.exp(foil),
    ),
    MetricKind(
        "kl",
        "KL divergence",
        _kl,
        floor=(1e-6, 0.0),  # nats; noise shrinks as 5e-5 sqrt(2 kl) near the clean run
        gradient=_mlx_kl,
    ),
    MetricKind(
        "rank",
        "rank",
        lambda x, target: (x > x[:, target, None]).sum(-1).astype(np.float64),
        floor=(0.5, 0.0),  # a whole number: any change counts
        gradient=None,  # it steps from whole number to whole number
    ),
    MetricKind(
        "l2",
        "logit distance",
        lambda x, clean: np.linalg.norm(x - clean.logits, axis=-1),
        floor=(5e-3, 0.0),  # 10 x 2e-6 (rms) x sqrt(50k logits)
        gradient=lambda x, clean: _mlx_norm(x - mx.array(clean.logits.astype(np.float32))),
    ),
    MetricKind(
        "cosine",
        "cosine similarity",
        _cosine,
        floor=(1e-7, 0.0),  # quadratic in the distance, like kl
        gradient=_mlx_cosine,
    ),
)
METRICS: dict[str, MetricKind] = {kind.name: kind for kind in _KINDS}
CUSTOM_FLOOR = (1e-6, 1e-4)  # of a user's own function
