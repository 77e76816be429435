"""How far two arrays differ, relative to the largest value of the right one: the error of every law."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

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
