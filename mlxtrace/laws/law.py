"""What a law is, and what measuring it gives.

    @law("two plain runs agree to the bit", distrust="any number: this model's own answer changes from run to run")
    def repeats(tested: ModelUnderTest) -> Measurement: ...      # or raise DoesNotApply(why)

A law is an identity that must hold for any model, so that a model whose right answers nobody knows can still be
checked: an untouched trace changes no bit, the whole stream of another run gives that run's logits, all engines
give the same numbers. Errors are relative to the largest value of the right side. `registry` lists the laws in the
order of the check's table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np


class DoesNotApply(Exception):
    """The law does not apply to this model, and why."""


class TooNoisy(Exception):
    """The model's own logits move more than any tolerance may allow, so that the law can say nothing."""


@dataclass(frozen=True)
class Measurement:
    """The largest error that was measured, how much is allowed, and what is worth saying.

    error: relative to the largest value of what is compared, or a count where the law counts.
    """

    error: float
    tolerance: float
    note: str = ""


@dataclass(frozen=True)
class Law:
    """A law's name, what cannot be trusted where it fails, and how it is measured on a `ModelUnderTest`."""

    name: str
    distrust: str
    measure: Callable[[Any], Measurement]

    def __call__(self, tested: Any) -> Measurement:
        """Measure the law."""
        return self.measure(tested)


def law(name: str, distrust: str) -> Callable[[Callable[[Any], Measurement]], Law]:
    """Make a law of the function that measures it."""

    def named(measure: Callable[[Any], Measurement]) -> Law:
        return Law(name, distrust, measure)

    return named


def listed(names: Iterable[Any], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


# ---- errors

Array = mx.array | np.ndarray


def relative_error(a: Array, b: Array) -> float:
    """The largest difference by the largest finite value of `b`; infinite where shapes differ or a NaN is.

    Tokens that a model rules out (-inf in both) are alike.
    """
    if a.shape != b.shape:
        return float("inf")
    left, right = as_numpy(a), as_numpy(b)
    error = float(differences(left, right).max()) / largest(right)
    return float("inf") if np.isnan(error) else error


def differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b|, and 0 where both are infinite alike."""
    with np.errstate(invalid="ignore"):
        return np.where(a == b, 0, np.abs(a - b))


def largest(x: np.ndarray) -> float:
    """The largest finite value, never 0."""
    return float(np.abs(x).max(where=np.isfinite(x), initial=1e-12))


def as_numpy(x: Array) -> np.ndarray:
    """An mlx array in float32 (NumPy has no bfloat16), a NumPy array as it is."""
    return np.array(x.astype(mx.float32)) if isinstance(x, mx.array) else x
