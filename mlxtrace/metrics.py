"""Metrics: last-position logits -> one number per run, and the recovery between two runs.

    m = bind("logit_diff", target=12, foil=7, clean_logits=clean)    # clean: [V]
    values = m(logits)                                               # [..., V] -> [...]
    percent = recovery(values, clean=m(clean), corrupted=m(corrupted), name=m.name)

Which metrics there are is written in one place: the table `METRICS`, in `metric_table`.
Everything is NumPy in float64: MLX's own CPU sums are off by up to 1.7e-4 at a vocabulary of 50k.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .custom_metric import check_gradient as check_gradient
from .custom_metric import check_rows, checked, name_of
from .errors import EffectError, InputError, closest
from .metric_table import CUSTOM_FLOOR, METRICS, CleanRun, MetricKind, log_softmax, softmax

__all__ = [
    "METRICS",
    "Metric",
    "MetricKind",
    "bind",
    "bind_all",
    "every_position",
    "floor",
    "log_softmax",
    "name_of",
    "recovery",
    "softmax",
]
CHUNK_BYTES = 4 << 20  # rows are widened to float64 this much at a time: it stays in the cache


@dataclass(frozen=True)
class Metric:
    """A metric bound to its target, foil and clean run: call it on logits `[..., V]`, get float64 `[...]`.

    Raises InputError when the logits or the values are not finite, or the vocabulary is another one.
    """

    name: str
    compute: Callable[[np.ndarray], np.ndarray]  # float64 [rows, V] -> [rows]
    vocab_size: int
    every_position: bool = False  # logits are [..., T, V]
    gradient: Callable[[Any], Any] | None = None  # the same of MLX logits, float32 [rows, V] -> [rows]

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


def bind(
    metric: str | Callable[[np.ndarray], Any] | Metric,
    *,
    target: int | None,
    foil: int | None,
    clean_logits: Any,
    every_clean_logits: Any = None,
) -> Metric:
    """The metric as a function of logits alone.

    Of the target: `prob`, `logprob` (nats; `logprob_mean` is the same of one token), `logit`, `rank` (how many tokens
    have a strictly greater logit; 0: the top one), and `logit_diff` and `prob_diff` (its logit or probability - the
    foil's). Of the whole distribution: `kl`, KL(clean || run) = sum p_clean (log p_clean - log p_run) in nats; `l2` and
    `cosine`, Euclidean distance from the clean logits and cosine of the angle to them.

    Args:
        metric: a name, or a function. It gets float64 logits `[rows, V]` (a NumPy array) and returns one number
            per row, of that row alone; it is tried on a few rows, each by itself and together, before anything
            else runs. One marked with `every_position` gets `[rows, T, V]`.
        target, foil: token ids of the two answers; None where the metric needs none.
        clean_logits: `[V]`, of the clean run's last position.
        every_clean_logits: `[T, V]`, for functions of every position.

    Returns:
        A `Metric`: call it on logits `[..., V]`, get float64 `[...]`.

    Raises:
        InputError: an unknown name, a target or foil that is missing or outside the vocabulary, or a function
            that returns anything else.

    Example:
        >>> from mlxtrace import metrics
        >>> m = metrics.bind("logit_diff", target=2, foil=0, clean_logits=[0.0, 1.0, 3.0])
        >>> m([[0.0, 1.0, 3.0], [2.0, 1.0, 0.0]]).tolist()
        [3.0, -2.0]
    """
    if isinstance(metric, Metric):
        return metric
    if callable(metric):
        every = getattr(metric, "every_position", False)
        return _bind_function(metric, every_clean_logits if every else clean_logits, every)
    clean = np.asarray(clean_logits, dtype=np.float64)
    if clean.ndim != 1:
        raise InputError(f"clean_logits must be [V], the last position of one run; got {list(clean.shape)}")
    if not isinstance(metric, str) or metric not in METRICS:
        raise InputError(
            f"there is no metric {metric!r}; {closest(str(metric), METRICS)}; or pass a function"
        )
    kind, given = METRICS[metric], {"target": target, "foil": foil, "clean": CleanRun(clean)}
    for role in ("target", "foil"):
        if role in kind.needs:
            _check_token(metric, role, given[role], len(clean))
    if "foil" in kind.needs and foil == target:
        raise InputError(
            f"{metric} needs two answers; target and foil are both token {target}: pass another foil="
        )
    needed = {name: given[name] for name in kind.needs}
    gradient = None if kind.gradient is None else functools.partial(kind.gradient, **needed)
    bound = Metric(metric, functools.partial(kind.formula, **needed), len(clean), gradient=gradient)
    bound(clean)
    return bound


def bind_all(
    metrics: Any,
    *,
    target: int | None,
    foil: int | None,
    clean_logits: Any,
    every_clean_logits: Any = None,
) -> list[Metric]:
    """One metric or a list of them, bound; each name once (functions of the same name are numbered).

    Args:
        metrics: a name, a function, or a list of these.
        target, foil, clean_logits, every_clean_logits: as in `bind`.

    Returns:
        A `Metric` for each, in the order given.

    Raises:
        InputError: none was given, a name twice, or whatever `bind` refuses.

    Example:
        >>> from mlxtrace import metrics
        >>> both = metrics.bind_all(["prob", "kl"], target=1, foil=None, clean_logits=[0.0, 2.0])
        >>> [m.name for m in both]
        ['prob', 'kl']
    """
    several = list(metrics) if isinstance(metrics, Sequence) and not isinstance(metrics, str) else [metrics]
    context = {"clean_logits": clean_logits, "every_clean_logits": every_clean_logits}
    bound = named_apart(several, [bind(metric, target=target, foil=foil, **context) for metric in several])
    if not bound:
        raise InputError("no metric was asked for: metric=[] measures nothing")
    return bound


def named_apart(metrics: Sequence[Any], bound: Sequence[Metric]) -> list[Metric]:
    """Metrics as they were asked for, bound: functions of one name are numbered; InputError for a name twice."""
    found: list[Metric] = []
    for metric, one in zip(metrics, bound, strict=True):
        taken = [*(m.name for m in found), *(METRICS if callable(metric) else ())]
        if one.name in taken and not callable(metric):
            raise InputError(f"metric {one.name} is asked for twice")
        name, n = one.name, 2
        while name in taken:
            name, n = f"{one.name}_{n}", n + 1
        found.append(replace(one, name=name))
    return found


def every_position(function: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
    """Mark a function as one of the logits of all positions: it gets `[rows, T, V]` and returns `[rows]`.

    Such a sweep computes more: every position goes through the head.

    Args:
        function: the metric.

    Returns:
        The same function, marked.

    Example:
        >>> from mlxtrace import metrics
        >>> @metrics.every_position
        ... def largest(logits):
        ...     return logits.max((-2, -1))
        >>> m = metrics.bind(largest, target=None, foil=None, clean_logits=[0, 1], every_clean_logits=[[0, 1], [2, 3]])
        >>> m([[[4.0, 5.0], [6.0, 7.0]]]).tolist()
        [7.0]
    """
    vars(function)["every_position"] = True
    return function


# ---- recovery


def floor(name: str, clean: float, corrupted: float) -> float:
    """The smallest `|clean - corrupted|` over which a recovery of this metric means something.

    Args:
        name: the metric's.
        clean, corrupted: its values on the two plain runs, in the metric's own unit.

    Returns:
        The larger of an absolute gap and one relative to the values, in the metric's own unit.

    Example:
        >>> from mlxtrace import metrics
        >>> metrics.floor("logit_diff", 2.0, -1.0)
        0.001
    """
    absolute, relative = METRICS[name].floor if name in METRICS else CUSTOM_FLOOR
    return max(absolute, relative * max(abs(clean), abs(corrupted)))


def recovery(patched: Any, clean: float, corrupted: float, name: str = "") -> np.ndarray:
    """`100 * (patched - corrupted) / (clean - corrupted)`, in percent.

    100: as in the clean run; 0: as in the corrupted run; below 0 and above 100 happen.

    Args:
        patched: the metric's values, of any shape.
        clean, corrupted: its values on the two plain runs.
        name: the metric's, for its floor.

    Returns:
        float64, shaped as `patched`, in percent.

    Raises:
        EffectError: clean and corrupted are closer than `floor(name, clean, corrupted)`; it gives both.

    Example:
        >>> from mlxtrace import metrics
        >>> metrics.recovery([1.0, 2.0, 3.0], clean=3.0, corrupted=1.0, name="logit").tolist()
        [0.0, 50.0, 100.0]
    """
    clean, corrupted = float(clean), float(corrupted)
    gap, least = abs(clean - corrupted), floor(name, clean, corrupted)
    if not least <= gap < math.inf:  # also when either is NaN
        other = (
            'a metric of the whole distribution (metric="kl")' if name != "kl" else "a stronger corruption"
        )
        if name in ("prob", "prob_diff") and 0 < max(abs(clean), abs(corrupted)) < 1e-6:
            other = f'metric="logprob", which tells improbable answers apart, or {other}'
        raise EffectError(
            f"the corruption hardly moves {name or 'the metric'}: clean {clean:.6g}, corrupted "
            f"{corrupted:.6g}, a gap of {gap:.2g} where {least:.2g} is the least that means anything, so "
            f"recovery is refused. Use a corrupted prompt with another answer, another target=, or {other}; "
            "if this is one of several metrics, leave it out."
        )
    return 100.0 * (np.asarray(patched, dtype=np.float64) - corrupted) / (clean - corrupted)


def _check_token(metric: str, role: str, token: Any, vocab_size: int) -> None:
    if token is None:
        raise InputError(f"metric {metric} needs a {role}: pass {role}= as text or a token id")
    if isinstance(token, bool | np.bool_) or not hasattr(token, "__index__"):
        raise InputError(f"{role} is a token id, not {token!r}")
    if not 0 <= token < vocab_size:
        raise InputError(f"{role} {token} is outside the vocabulary: token ids go from 0 to {vocab_size - 1}")


def _bind_function(function: Callable[[np.ndarray], Any], clean_logits: Any, every: bool) -> Metric:
    clean = np.asarray(clean_logits, dtype=np.float64)
    gradient = getattr(function, "gradient", function)
    bound = Metric(name_of(function), checked(function), clean.shape[-1], every, gradient)
    bound(np.stack([clean, clean]))  # two rows: a function of a single row fails here, not in mid-sweep
    check_rows(bound.name, bound.compute, clean)
    return bound
