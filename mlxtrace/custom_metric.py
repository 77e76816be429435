"""A metric that a user wrote: a function of logits, tried before anything runs, so that it fails here or nowhere.

compute = checked(function)                 # float64 logits [rows, V] -> float64 [rows]
check_rows(name_of(function), compute, clean)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from .errors import InputError

Function = Callable[[np.ndarray], Any]
WANTED = "it gets float64 NumPy logits [rows, V] and must return one number per row, [rows]"


def name_of(metric: str | Callable[..., Any]) -> str:
    """The name that a metric has in results: a function's own, "function" for a lambda."""
    if isinstance(metric, str):
        return metric
    name = getattr(metric, "__name__", type(metric).__name__)
    return "function" if name == "<lambda>" else name


def checked(function: Function) -> Callable[[np.ndarray], np.ndarray]:
    """The function with its values as float64 `[rows]`; calls that fail or give anything else raise InputError."""
    name = name_of(function)

    def compute(logits: np.ndarray) -> np.ndarray:
        try:
            given = function(logits)
            values = np.asarray([_plain(x) for x in given] if isinstance(given, list | tuple) else given)
        except Exception as error:
            raise InputError(
                f"metric {name} failed on logits {list(logits.shape)}: {type(error).__name__}: {error}; {WANTED}"
            ) from error
        if values.shape != (len(logits),):
            raise InputError(
                f"metric {name} returned shape {list(values.shape)} for logits {list(logits.shape)}; {WANTED}"
            )
        if values.dtype.kind not in "fiub":
            raise InputError(f"metric {name} returned {values.dtype} values, no numbers; {WANTED}")
        return values.astype(np.float64)

    return compute


def check_rows(name: str, compute: Callable[[np.ndarray], np.ndarray], clean: np.ndarray) -> None:
    """InputError when the value of a row depends on the rows beside it, or changes from call to call."""
    # three rows that are unlike each other in every way
    rows = np.stack([clean, np.roll(clean, 1, -1) / 2, clean[..., ::-1] / 4])
    alone = np.concatenate([compute(row[None].copy()) for row in rows])
    together = compute(rows.copy())
    turned = compute(rows[::-1].copy())[::-1]
    for values in (together, turned):
        if not np.allclose(values, alone, rtol=1e-6, atol=1e-12, equal_nan=True):
            worst = int(np.argmax(np.abs(values - alone)))
            raise InputError(
                f"metric {name} gives {alone[worst]:.6g} for a row alone and {values[worst]:.6g} for the same "
                "row among others: it must give each row of logits [rows, V] its own number (a softmax or a mean "
                "needs axis=-1), the same on every call"
            )


def in_both(function: Callable[[Any], Any]) -> Function:
    """The function for NumPy's logits as well, where it is written with MLX: it is then given them as MLX has them."""

    def compute(logits: np.ndarray) -> Any:
        try:
            return function(logits)
        except Exception:  # whatever MLX says of an array that is not its own
            return np.asarray(function(mx.array(logits.astype(np.float32))))

    compute.__name__ = name_of(function)
    vars(compute).update(vars(function) if hasattr(function, "__dict__") else {}, gradient=function)
    return compute


def check_gradient(name: str, function: Callable[[mx.array], mx.array], logits: np.ndarray) -> None:
    """InputError unless a function of MLX logits `[rows, V]` has a gradient there that is not zero everywhere."""
    try:
        _, found = mx.value_and_grad(lambda x: function(x).sum())(mx.array(logits.astype(np.float32)))
        steep = bool(mx.any(mx.isfinite(found) & (found != 0)).item())
    except Exception as error:
        raise InputError(
            f"metric {name} cannot be differentiated: {type(error).__name__}: {str(error)[:160]}; attribution gives "
            "it logits [rows, V] of MLX and differentiates what it returns, [rows]: write it with mlx.core "
            "(mx.logsumexp, mx.exp, ...), not with NumPy. A function that only indexes and uses operators and methods "
            "(x[:, 5] - x.max(-1)) serves activation_patching, which gives NumPy's arrays, as well"
        ) from error
    if not steep:
        raise InputError(
            f"metric {name} has a gradient of zero at the run that is patched, so that every estimate would be 0: "
            "it is flat there, or compares with that very run; choose another metric, or use activation_patching"
        )


def _plain(x: Any) -> Any:
    """An element of a list as NumPy takes it: arrays of MLX without axes become numbers."""
    return x.item() if hasattr(x, "item") and getattr(x, "ndim", 1) == 0 else x
