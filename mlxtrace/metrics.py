"""Metrics: last-position logits -> one number per run, and the recovery between two runs.

    m = bind("logit_diff", target=12, foil=7, clean_logits=clean)    # clean: [V]
    values = m(logits)                                               # [..., V] -> [...]
    percent = recovery(values, clean=m(clean), corrupted=m(corrupted), name=m.name)

Everything is NumPy in float64: MLX's own CPU sums are off by up to 1.7e-4 at a vocabulary of 50k.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import EffectError, InputError, closest

NAMES = ("prob", "logprob", "logit", "logit_diff", "prob_diff", "kl", "rank", "l2", "cosine")
NEED_TARGET = ("prob", "logprob", "logit", "logit_diff", "prob_diff", "rank")
NEED_FOIL = ("logit_diff", "prob_diff")
CHUNK_BYTES = 4 << 20  # rows are widened to float64 this much at a time: it stays in the cache

# The smallest gap between clean and corrupted that means something, as (absolute, relative to the larger
# value): ten times what float32 arithmetic alone can move, for logits off by 5e-5 at worst, 7e-6 as measured.
FLOORS = {
    "prob": (1e-12, 1e-4),  # dp = p (1 - p) dlogit: noise is relative
    "logprob": (5e-4, 0.0),
    "logit": (5e-4, 0.0),
    "logit_diff": (1e-3, 0.0),  # two logits
    "prob_diff": (2e-5, 1e-4),  # two probabilities, off by 2e-6 at worst
    "kl": (1e-6, 0.0),  # nats; noise shrinks as 5e-5 sqrt(2 kl) near the clean run
    "rank": (0.5, 0.0),  # a whole number: any change counts
    "l2": (5e-3, 0.0),  # 10 x 2e-6 (rms) x sqrt(50k logits)
    "cosine": (1e-7, 0.0),  # quadratic in the distance, like kl
}
USER_FLOOR = (1e-6, 1e-4)


@dataclass(frozen=True)
class Metric:
    """A metric bound to its target, foil and clean run: call it on logits `[..., V]`, get float64 `[...]`.

    Raises InputError when the logits or the values are not finite, or the vocabulary is another one.
    """

    name: str
    compute: Callable[[np.ndarray], np.ndarray]  # float64 [rows, V] -> [rows]
    vocab_size: int
    every_position: bool = False  # logits are [..., T, V]

    def __call__(self, logits: Any) -> np.ndarray:
        logits = np.asarray(logits)
        axes = 2 if self.every_position else 1
        if logits.ndim < axes or logits.shape[-1] != self.vocab_size:
            raise InputError(
                f"metric {self.name} was bound to a vocabulary of {self.vocab_size}; "
                f"these logits are shaped {list(logits.shape)}"
            )
        rows = logits.reshape(-1, *logits.shape[-axes:])
        step = max(1, CHUNK_BYTES // (8 * rows[0].size)) if len(rows) else 1
        values = [self._rows(rows[i : i + step]) for i in range(0, len(rows), step)]
        return np.concatenate(values or [np.empty(0)]).reshape(logits.shape[:-axes])

    def _rows(self, rows: np.ndarray) -> np.ndarray:
        rows = np.array(rows, dtype=np.float64)  # a copy: a user's function may write into it
        top = rows.reshape(len(rows), -1).max(-1)
        broken = np.isnan(top) | np.isposinf(top)  # -inf is a token that the model rules out
        if broken.any():
            raise InputError(
                f"{int(broken.sum())} of {len(rows)} runs have logits that are NaN or infinite, so "
                f"{self.name} has no value: the model overflows on this prompt or with this patch; "
                'try dtype="float32"'
            )
        values = self.compute(rows)
        if not np.isfinite(values).all():
            raise InputError(
                f"metric {self.name} gave {values[~np.isfinite(values)][0]}; every value must be finite"
            )
        return values


def log_softmax(logits: Any) -> np.ndarray:
    """Log-probabilities in nats, float64, of logits `[..., V]`; same shape."""
    logits = np.asarray(logits, dtype=np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def softmax(logits: Any) -> np.ndarray:
    """Probabilities, float64, of logits `[..., V]`; same shape."""
    return np.exp(log_softmax(logits))


def bind(
    metric: str | Callable[[np.ndarray], Any] | Metric,
    *,
    target: int | None,
    foil: int | None,
    clean_logits: Any,
    every_clean_logits: Any = None,
) -> Metric:
    """The metric as a function of logits alone: `bind("prob", ...)(logits[..., V]) -> float64 [...]`.

    Of the target: `prob`, `logprob` (nats), `logit`, `rank` (how many tokens have a strictly greater logit;
    0: the top one), and `logit_diff` and `prob_diff` (its logit or probability - the foil's). Of the whole
    distribution: `kl`, KL(clean || run) = sum p_clean (log p_clean - log p_run) in nats; `l2` and `cosine`,
    Euclidean distance from the clean logits and cosine of the angle to them. A function gets float64 logits
    `[rows, V]` (a NumPy array) and returns one number per row, of that row alone; it is tried on a few rows,
    each by itself and together, before anything else runs.

    `target`, `foil`: token ids. `clean_logits`: `[V]`. Raises InputError for an unknown name, a target or
    foil that is missing or outside the vocabulary, or a function that returns anything else.
    A function marked with `every_position` gets `[rows, T, V]`, and is tried on `every_clean_logits` `[T, V]`.
    """
    if isinstance(metric, Metric):
        return metric
    clean = np.asarray(clean_logits, dtype=np.float64)
    if callable(metric):
        every = getattr(metric, "every_position", False)
        clean = np.asarray(every_clean_logits, dtype=np.float64) if every else clean
        bound = Metric(name_of(metric), _user(metric), clean.shape[-1], every)
        bound(np.stack([clean, clean]))  # two rows: a function of a single row fails here, not in mid-sweep
        _check_rows(bound, clean)
        return bound
    if clean.ndim != 1:
        raise InputError(f"clean_logits must be [V], the last position of one run; got {list(clean.shape)}")
    if not isinstance(metric, str) or metric not in NAMES:
        raise InputError(f"there is no metric {metric!r}; {closest(str(metric), NAMES)}; or pass a function")
    if metric in NEED_TARGET:
        _check_token(metric, "target", target, len(clean))
    if metric in NEED_FOIL:
        _check_token(metric, "foil", foil, len(clean))
        if foil == target:
            raise InputError(
                f"{metric} needs two answers; target and foil are both token {target}: pass another foil="
            )
    bound = Metric(metric, _builtin(metric, target, foil, clean), len(clean))
    bound(clean)
    return bound


def every_position(function: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
    """Mark a metric that needs the logits of all positions: it gets `[rows, T, V]` and returns `[rows]`.

    Such a sweep computes more: every position goes through the head.
    """
    function.every_position = True
    return function


def bind_all(
    metrics: Any,
    *,
    target: int | None,
    foil: int | None,
    clean_logits: Any,
    every_clean_logits: Any = None,
) -> list[Metric]:
    """One metric or a list of them, bound; each name once (functions of the same name are numbered)."""
    several = isinstance(metrics, Sequence) and not isinstance(metrics, str)
    bound: list[Metric] = []
    for metric in metrics if several else [metrics]:
        one = bind(
            metric,
            target=target,
            foil=foil,
            clean_logits=clean_logits,
            every_clean_logits=every_clean_logits,
        )
        taken = [*(m.name for m in bound), *(NAMES if callable(metric) else ())]
        if one.name in taken and not callable(metric):
            raise InputError(f"metric {one.name} is asked for twice")
        name, n = one.name, 2
        while name in taken:
            name, n = f"{one.name}_{n}", n + 1
        bound.append(replace(one, name=name))
    if not bound:
        raise InputError("no metric was asked for: metric=[] measures nothing")
    return bound


def name_of(metric: str | Callable[..., Any]) -> str:
    """The name that a metric has in results."""
    if isinstance(metric, str):
        return metric
    name = getattr(metric, "__name__", type(metric).__name__)
    return "function" if name == "<lambda>" else name


def floor(name: str, clean: float, corrupted: float) -> float:
    """The smallest |clean - corrupted| over which a recovery of this metric means something (see FLOORS)."""
    absolute, relative = FLOORS.get(name, USER_FLOOR)
    return max(absolute, relative * max(abs(clean), abs(corrupted)))


def recovery(patched: Any, clean: float, corrupted: float, name: str = "") -> np.ndarray:
    """`100 * (patched - corrupted) / (clean - corrupted)`, in percent; float64, shaped as `patched`.

    100: as in the clean run; 0: as in the corrupted run; below 0 and above 100 happen. Raises EffectError
    with both values when they are closer than `floor(name, clean, corrupted)`.
    """
    clean, corrupted = float(clean), float(corrupted)
    gap, least = abs(clean - corrupted), floor(name, clean, corrupted)
    if not least <= gap < math.inf:  # also when either is NaN
        other = (
            'a metric of the whole distribution (metric="kl")' if name != "kl" else "a stronger corruption"
        )
        raise EffectError(
            f"the corruption hardly moves {name or 'the metric'}: clean {clean:.6g}, corrupted "
            f"{corrupted:.6g}, a gap of {gap:.2g} where {least:.2g} is the least that means anything, so "
            f"recovery is refused. Use a corrupted prompt with another answer, another target=, or {other}; "
            "if this is one of several metrics, leave it out."
        )
    return 100.0 * (np.asarray(patched, dtype=np.float64) - corrupted) / (clean - corrupted)


def _check_token(metric: str, role: str, token: int | None, vocab_size: int) -> None:
    if token is None:
        raise InputError(f"metric {metric} needs a {role}: pass {role}= as text or a token id")
    if isinstance(token, bool | np.bool_) or not hasattr(token, "__index__"):
        raise InputError(f"{role} is a token id, not {token!r}")
    if not 0 <= token < vocab_size:
        raise InputError(f"{role} {token} is outside the vocabulary: token ids go from 0 to {vocab_size - 1}")


def _builtin(name: str, target: int | None, foil: int | None, clean: np.ndarray) -> Callable:
    if name == "prob":
        return lambda x: np.exp(x[:, target] - _log_sum_exp(x))
    if name == "logprob":
        return lambda x: x[:, target] - _log_sum_exp(x)
    if name == "logit":
        return lambda x: x[:, target].copy()
    if name == "logit_diff":
        return lambda x: x[:, target] - x[:, foil]
    if name == "prob_diff":
        return lambda x: np.exp(x[:, target] - _log_sum_exp(x)) - np.exp(x[:, foil] - _log_sum_exp(x))
    if name == "rank":
        return lambda x: (x > x[:, target, None]).sum(-1).astype(np.float64)
    if name == "l2":
        return lambda x: np.linalg.norm(x - clean, axis=-1)
    if name == "cosine":
        return lambda x: x @ clean / (np.linalg.norm(x, axis=-1) * np.linalg.norm(clean))
    log_p = log_softmax(clean)
    seen = np.isfinite(log_p)  # a token of probability 0 adds 0 to the sum
    p = np.exp(log_p[seen])
    return lambda x: (p * (log_p[seen] - log_softmax(x)[:, seen])).sum(-1)


def _log_sum_exp(x: np.ndarray) -> np.ndarray:
    top = x.max(-1)
    shifted = x - top[:, None]
    return top + np.log(np.exp(shifted, out=shifted).sum(-1))


def _user(function: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], np.ndarray]:
    want = "it gets float64 NumPy logits [rows, V] and must return one number per row, [rows]"

    def compute(rows: np.ndarray) -> np.ndarray:
        try:
            given = function(rows)
            values = np.asarray([_plain(x) for x in given] if isinstance(given, list | tuple) else given)
        except Exception as error:
            raise InputError(
                f"metric {name_of(function)} failed on logits {list(rows.shape)}: "
                f"{type(error).__name__}: {error}; {want}"
            ) from error
        if values.shape != (len(rows),):
            raise InputError(
                f"metric {name_of(function)} returned shape {list(values.shape)} for logits "
                f"{list(rows.shape)}; {want}"
            )
        if values.dtype.kind not in "fiub":
            raise InputError(f"metric {name_of(function)} returned {values.dtype} values, no numbers; {want}")
        return values.astype(np.float64)

    return compute


def _plain(x: Any) -> Any:
    """An element of a list as NumPy takes it: arrays of MLX without axes become numbers."""
    return x.item() if hasattr(x, "item") and getattr(x, "ndim", 1) == 0 else x


def _check_rows(metric: Metric, clean: np.ndarray) -> None:
    """InputError when a function's value of a row depends on the rows beside it, or changes from call to call."""
    rows = np.stack(
        [clean, np.roll(clean, 1, -1) / 2, clean[..., ::-1] / 4]
    )  # unlike each other in every way
    alone = np.concatenate([metric.compute(row[None].copy()) for row in rows])
    together = metric.compute(rows.copy())
    turned = metric.compute(rows[::-1].copy())[::-1]
    for values in (together, turned):
        if not np.allclose(values, alone, rtol=1e-6, atol=1e-12, equal_nan=True):
            worst = int(np.argmax(np.abs(values - alone)))
            raise InputError(
                f"metric {metric.name} gives {alone[worst]:.6g} for a row alone and {values[worst]:.6g} for the same "
                "row among others: it must give each row of logits [rows, V] its own number (a softmax or a mean "
                "needs axis=-1), the same on every call"
            )
