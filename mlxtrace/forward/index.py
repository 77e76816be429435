"""What an index of an activation may be: inside the array, in the types that MLX takes.

MLX lets an index past the end through, reads by no mask, and takes NumPy's types in some places only.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import PositionError


def plain_index(index: Any) -> Any:
    """The index in the types that MLX takes, on handles of its own: what the caller does to theirs is theirs."""
    if isinstance(index, tuple):
        return tuple(part for item in index for part in _plain_parts(item, beside=True))
    parts = _plain_parts(index, beside=False)
    return parts[0] if len(parts) == 1 else tuple(parts)


def _plain_parts(part: Any, beside: bool) -> list[Any]:
    if isinstance(part, np.generic):
        return [part.item()]
    if isinstance(part, (list, range)) and len(part):
        part = np.array(part)
    if is_mask(part):  # MLX reads by no mask, and takes none beside another index
        try:
            return [mx.array(axis) for axis in np.nonzero(np.array(part))]
        except ValueError:
            return [part]  # it is being differentiated and has no values yet
    return [mx.array(part)] if isinstance(part, (np.ndarray, mx.array)) else [part]


def is_mask(part: Any) -> bool:
    return hasattr(part, "dtype") and part.dtype in (mx.bool_, np.bool_) and part.ndim > 0


def first_axis(index: Any, ndim: int, name: str) -> tuple[Any, tuple]:
    """What an index says of axis 0, and of the axes behind it, with an Ellipsis written out as slices."""
    parts = [_listed(part, name) for part in (index if isinstance(index, tuple) else (index,))]
    if sum(part is Ellipsis for part in parts) > 1:
        raise PositionError(f"{name} cannot be indexed by several Ellipses")
    missing = (slice(None),) * max(0, ndim - sum(map(_axes_taken, parts)))
    full = tuple(one for part in parts for one in (missing if part is Ellipsis else (part,)))
    return (full[0], full[1:]) if full else (slice(None), ())


def check_index(index: Any, shape: tuple[int, ...], name: str, edit: bool = False) -> None:
    """Raise PositionError when `index` lies outside `shape`.

    Integers must be inside always. A slice that is read is cut off at the end, as everywhere in Python; a slice
    that is edited must lie inside and select something, because an edit that quietly does less misleads.
    """
    parts = [_listed(part, name) for part in (index if isinstance(index, tuple) else (index,))]
    axes = sum(_axes_taken(p) for p in parts)
    if axes > len(shape):
        raise PositionError(f"{name} has {len(shape)} axes {tuple(shape)}; {axes} were indexed")
    axis = 0
    for part in parts:
        if part is Ellipsis:
            axis += len(shape) - axes
        elif isinstance(part, slice):
            if edit:
                _check_slice(part, shape, axis, name)
        elif is_mask(part):
            _check_mask(part, shape, axis, name, edit)
        elif part is not None:
            _check_integers(part, shape, axis, name, edit)
        axis += _axes_taken(part)


def _listed(part: Any, name: str) -> Any:
    """A list as the array that it means: a list of booleans is a mask."""
    if not isinstance(part, list) or not part:
        return part
    try:
        return np.array(part)
    except ValueError as error:
        raise PositionError(f"{name} cannot be indexed by {part!r}: {error}") from None


def _axes_taken(part: Any) -> int:
    if part is None or part is Ellipsis:
        return 0
    dtype = getattr(part, "dtype", None)
    return max(part.ndim, 1) if dtype is not None and dtype in (mx.bool_, np.bool_) else 1


def _check_slice(part: slice, shape: tuple[int, ...], axis: int, name: str) -> None:
    size = shape[axis]
    bounds = [b for b in (part.start, part.stop) if b is not None]
    if any(not -size <= b <= size for b in bounds):
        raise PositionError(f"slice {_text(part)} leaves axis {axis} of {name}{tuple(shape)}: 0 to {size}")
    if size and not range(*part.indices(size)):
        raise PositionError(f"slice {_text(part)} of axis {axis} of {name}{tuple(shape)} selects nothing")


def _check_mask(part: Any, shape: tuple[int, ...], axis: int, name: str, edit: bool) -> None:
    masked = tuple(shape[axis : axis + part.ndim])
    if tuple(part.shape) != masked:
        raise PositionError(
            f"a mask of shape {tuple(part.shape)} does not fit {masked} of {name}{tuple(shape)}"
        )
    try:
        nothing = not np.array(part).any()
    except ValueError:
        return  # a mask that is itself being differentiated has no values yet
    if edit and nothing:
        raise PositionError(f"the mask at axis {axis} of {name}{tuple(shape)} selects nothing")


def _text(part: slice) -> str:
    return ":".join("" if b is None else str(b) for b in (part.start, part.stop))


def _check_integers(part: Any, shape: tuple[int, ...], axis: int, name: str, edit: bool) -> None:
    if isinstance(part, (bool, str, float)):
        raise PositionError(f"{name} cannot be indexed by {part!r}")
    try:
        values = np.array(part)
    except ValueError:
        return  # an index that is itself being differentiated has no values yet
    if not values.size:
        if edit:
            raise PositionError(f"an empty list at axis {axis} of {name}{tuple(shape)} selects nothing")
        return
    if values.dtype.kind not in "iu":
        raise PositionError(f"{name} cannot be indexed by {values.dtype} values")
    size = shape[axis]
    bad = values[(values < -size) | (values >= size)] if values.dtype.kind == "i" else values[values >= size]
    if bad.size:
        raise PositionError(
            f"index {int(bad.reshape(-1)[0])} is outside axis {axis} of {name}{tuple(shape)}: 0 to {size - 1}"
        )
