"""Edits that put NaN or infinity into a pass: no number that comes out of one means anything."""

from __future__ import annotations

import mlx.core as mx

from .errors import EditError


def unbroken(before: mx.array, after: mx.array, name: str) -> mx.array:
    """`after`, once it is known that an edit made nothing of `before` NaN or infinite; else EditError.

    What was not finite before may stay so (masks, an overflow of the model's own), and a logit may become -inf:
    that token is ruled out. Inside `mx.grad` arrays have no values yet and are not looked at.
    """
    if not mx.issubdtype(after.dtype, mx.inexact) or before.shape != after.shape:
        return after
    wrong = mx.isfinite(before) & ~mx.isfinite(after)
    if name == "logits":
        wrong = wrong & ~mx.isneginf(after)
    try:
        n = int(wrong.sum().item())
    except ValueError as error:
        if "transform" in str(error):
            return after
        raise
    if n:
        raise EditError(
            f"the edit of {name} made {n} of its {after.size} numbers NaN or infinite ({after.dtype}), so whatever "
            "the pass gives would mean nothing: check the value, or scale by less"
        )
    return after


def real(value: object, name: str) -> None:
    """EditError for a value that no activation holds: booleans, complex numbers."""
    kind = str(getattr(value, "dtype", type(value).__name__)).rsplit(".", 1)[-1]
    if kind.startswith(("bool", "complex")):
        raise EditError(f"{name} holds real numbers, not {kind} values: {value!r}")


def finite(value: mx.array, what: str) -> mx.array:
    """A value that is to be put into a pass, once it is known to hold no NaN; else EditError."""
    if mx.issubdtype(value.dtype, mx.floating):
        try:
            broken = bool(mx.isnan(value).any().item())
        except ValueError as error:
            if "transform" not in str(error):
                raise
            return value
        if broken:
            raise EditError(f"{what}: the value holds NaN; give finite numbers")
    return value
