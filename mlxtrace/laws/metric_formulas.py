"""Every metric's formula a second time, in NumPy, independent of `mlxtrace.metrics`: what the laws hold metrics to.

    metric_values("logit_diff", logits, clean, target, foil)      # logits [..., V] -> values [...]

A new metric gets its formula here as well, or the laws cannot measure it and say so.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Formula = Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]  # logits [..., V], clean [V], target, foil


def _log_p(x: np.ndarray) -> np.ndarray:
    top = x.max(-1, keepdims=True)
    return x - top - np.log(np.exp(x - top).sum(-1, keepdims=True))


def _kl(x: np.ndarray, clean: np.ndarray, target: int, foil: int) -> np.ndarray:
    p = np.exp(clean - clean.max()) / np.exp(clean - clean.max()).sum()
    return (p[p > 0] * (np.log(p[p > 0]) - _log_p(x)[..., p > 0])).sum(-1)


FORMULAS: dict[str, Formula] = {
    "prob": lambda x, clean, target, foil: np.exp(_log_p(x)[..., target]),
    "logprob": lambda x, clean, target, foil: _log_p(x)[..., target],
    "logprob_mean": lambda x, clean, target, foil: _log_p(x)[..., target],
    "logit": lambda x, clean, target, foil: x[..., target],
    "logit_diff": lambda x, clean, target, foil: x[..., target] - x[..., foil],
    "prob_diff": lambda x, clean, target, foil: np.exp(_log_p(x)[..., target]) - np.exp(_log_p(x)[..., foil]),
    "kl": _kl,
    "rank": lambda x, clean, target, foil: (x > x[..., target, None]).sum(-1).astype(float),
    "l2": lambda x, clean, target, foil: np.sqrt(((x - clean) ** 2).sum(-1)),
    "cosine": lambda x, clean, target, foil: (x * clean).sum(-1) / np.sqrt((x**2).sum(-1) * (clean**2).sum()),
}


def metric_values(name: str, x: np.ndarray, clean: np.ndarray, target: int, foil: int) -> np.ndarray:
    """A metric's values of logits `[..., V]`; KeyError for a metric that has no formula here."""
    if name not in FORMULAS:
        raise KeyError(f"metric {name!r} has no formula of its own: write it into FORMULAS in {__name__}")
    return FORMULAS[name](x, clean, target, foil)
