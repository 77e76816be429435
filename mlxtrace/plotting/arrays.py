"""Arrays and names as users hand them to figures, looked at before anything is drawn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..errors import InputError


def matrix(values: Any, shape: tuple[int | None, int | None], rule: str) -> np.ndarray:
    """As float64 `[rows, columns]`; InputError unless it has that shape (None: any) and is finite."""
    values = numbers(values, rule)
    fits = values.ndim == 2 and all(n in (None, m) for n, m in zip(shape, values.shape, strict=True))
    if not fits or not values.size:
        raise InputError(f"{rule}, all finite; got {list(values.shape)}")
    return values


def numbers(values: Any, rule: str) -> np.ndarray:
    """As float64; InputError unless every element is a finite real number."""
    try:
        found = np.asarray(values)
        found = found.astype(np.float64) if found.dtype.kind in "fiu" else np.array(np.nan)
    except (TypeError, ValueError, RuntimeError):  # ragged, or a type that NumPy does not know
        found = np.array(np.nan)
    if not np.isfinite(found).all():
        raise InputError(f"{rule}, all finite; got {' '.join(repr(values).split())[:60]}")
    return found


def labels_of(what: str, names: Any, n: int) -> list[str]:
    """A label for each row or column; InputError when there are more or fewer names than those."""
    if names is None:
        return [str(i) for i in range(n)]
    names = names.tolist() if hasattr(names, "tolist") else names
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise InputError(f"{what} is a list of {n} names, not {names!r}")
    found = [str(name) for name in names]
    if len(found) != n:
        raise InputError(f"the array has {n} {what}, but {what}= names {len(found)}: {', '.join(found)}")
    return found
