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
    """

    name: str
    words: str
    formula: Callable[..., np.ndarray]
    floor: tuple[float, float]

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


_KINDS = (
    MetricKind(
        "prob",
        "probability",
        lambda x, target: np.exp(_logprob(x, target)),
        floor=(1e-12, 1e-4),  # dp = p (1 - p) dlogit: noise is relative
    ),
    MetricKind("logprob", "log-probability", lambda x, target: _logprob(x, target), floor=(5e-4, 0.0)),
    MetricKind("logit", "logit", lambda x, target: x[:, target].copy(), floor=(5e-4, 0.0)),
    MetricKind(
        "logit_diff",
        "logit difference",
        lambda x, target, foil: x[:, target] - x[:, foil],
        floor=(1e-3, 0.0),  # two logits
    ),
    MetricKind(
        "prob_diff",
        "probability difference",
        lambda x, target, foil: np.exp(_logprob(x, target)) - np.exp(_logprob(x, foil)),
        floor=(2e-5, 1e-4),  # two probabilities, off by 2e-6 at worst
    ),
    MetricKind(
        "kl",
        "KL divergence",
        _kl,
        floor=(1e-6, 0.0),  # nats; noise shrinks as 5e-5 sqrt(2 kl) near the clean run
    ),
    MetricKind(
        "rank",
        "rank",
        lambda x, target: (x > x[:, target, None]).sum(-1).astype(np.float64),
        floor=(0.5, 0.0),  # a whole number: any change counts
    ),
    MetricKind(
        "l2",
        "logit distance",
        lambda x, clean: np.linalg.norm(x - clean.logits, axis=-1),
        floor=(5e-3, 0.0),  # 10 x 2e-6 (rms) x sqrt(50k logits)
    ),
    MetricKind(
        "cosine",
        "cosine similarity",
        _cosine,
        floor=(1e-7, 0.0),  # quadratic in the distance, like kl
    ),
)
METRICS: dict[str, MetricKind] = {kind.name: kind for kind in _KINDS}
CUSTOM_FLOOR = (1e-6, 1e-4)  # of a user's own function
