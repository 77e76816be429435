"""A direction: what the activations of one list of prompts have, on average, and those of another have not.

direction.vector, direction.norm             # [D] float32, and its length
direction.separation                         # of prompts that were held out
iv.add_vector(4 * direction, positions)      # steering
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx
import numpy as np

from .printing import elided, page, quoted
from .saved import InputError, Record, plain

__all__ = ["Direction", "plain"]
SHOWN, MOST = 3, 80  # prompts of either list that are printed, and characters of each


@dataclass(repr=False, eq=False)
class Direction(Record):
    """The mean activation of the positive prompts less that of the negative ones, at one site.

    It is taken wherever an array is (`iv.add_vector(4 * direction, -1)`, `h[:, -1] += 4 * direction`). Multiplied by a
    number it stays a `Direction`, which knows where it was taken; at another site an intervention refuses it, and takes
    `direction.vector`.

    Args:
        values: float64 `[D]`, or `[heads, D]` where the site is split by head: one time the difference.
        positive_along, negative_along: how far along the direction each prompt's activation lies, in units of the
            activation. The direction was made of these very prompts: `separation` is of others.
        site: its name. model: the model's.
        positive, negative: the prompts.
        positions: where in each prompt; activations of several are averaged before prompts are.
        typical: the mean length of the activations that it was made of.
        separation: the share of pairs of a positive and a negative prompt that the direction of all other prompts tells
            apart rightly (the area under the ROC curve, a pair held out at a time): 0.5 is chance. None with fewer
            than three different prompts in either list.
        method: how it was made.
        heads: the heads that it is of; the others' numbers are zero. None: all, or there are none.
        coefficient: how many times the difference it is.
        notes: what must be known to use it.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> from mlxtrace import interventions as iv
        >>> model = InterpretableModel("demo")
        >>> paris = ["The Eiffel Tower is in the city of", "The Louvre Museum is in the city of"]
        >>> rome = ["The Colosseum is in the city of", "The Trevi Fountain is in the city of"]
        >>> direction = model.direction(paris, rome, "layers.8")
        >>> direction.vector.shape, direction.separation is None, (2 * direction).norm == 2 * direction.norm
        ((128,), True, True)
        >>> direction.to_rows()[0]["prompt"]
        'The Eiffel Tower is in the city of'
        >>> with model.trace(rome[0], interventions={"layers.8": iv.add_vector(direction, -1)}) as trace:
        ...     pass
        >>> model.token_to_str(trace.output[0, -1].argmax().item())
        ' Paris'
    """

    values: np.ndarray
    positive_along: np.ndarray
    negative_along: np.ndarray
    site: str
    model: str
    positive: list[str]
    negative: list[str]
    positions: Any
    typical: float
    separation: float | None
    method: str = "mean_difference"
    heads: list[int] | None = None
    coefficient: float = 1.0
    notes: list[str] = field(default_factory=list)

    __array_ufunc__ = None  # so that a NumPy number leaves multiplying to this class

    # ---- the vector

    @property
    def vector(self) -> mx.array:
        """float32 `[D]`, or `[heads, D]`: a plain array of its own, which may be added anywhere."""
        return mx.array((self.coefficient * self.values).astype(np.float32))

    def __mlx_array__(self) -> mx.array:
        return self.vector

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return (self.coefficient * self.values).astype(dtype or np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the vector."""
        return self.values.shape

    @property
    def norm(self) -> float:
        """The vector's length (L2, over all heads together), in units of the activation."""
        return abs(self.coefficient) * float(np.linalg.norm(self.values))

    @property
    def unit(self) -> Direction:
        """The same direction with length 1: `8 * direction.unit` adds as much at any site."""
        return self * (1 / self.norm)

    def __mul__(self, k: Any) -> Direction:
        number = _number(k)
        return NotImplemented if number is None else replace(self, coefficient=self.coefficient * number)

    __rmul__ = __mul__

    def __truediv__(self, k: Any) -> Direction:
        number = _number(k)
        return NotImplemented if number is None else self * (1 / number)

    def __neg__(self) -> Direction:
        return self * -1.0

    def __add__(self, other: Any) -> mx.array:
        return self.vector + _array(other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> mx.array:
        return self.vector - _array(other)

    def __rsub__(self, other: Any) -> mx.array:
        return _array(other) - self.vector

    # ---- saved, as a table, printed

    def shapes(self) -> dict[str, tuple[int, ...]]:
        numbers = [self.coefficient, self.typical, 0.5 if self.separation is None else self.separation]
        if not np.isfinite(numbers).all():
            raise InputError("its numbers are not finite")
        along = {"positive_along": (len(self.positive),), "negative_along": (len(self.negative),)}
        return {"values": self.values.shape, **along}

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per prompt: which list it is in, its text, and how far along the direction its activation lies."""
        lists = {
            "positive": (self.positive, self.positive_along),
            "negative": (self.negative, self.negative_along),
        }
        return [
            {"list": name, "prompt": text, "along": float(along)}
            for name, (texts, values) in lists.items()
            for text, along in zip(texts, values, strict=True)
        ]

    def __repr__(self) -> str:
        times = "" if self.coefficient == 1 else f"{self.coefficient:zg} x "
        where = "all tokens but special ones" if self.positions is None else f"positions {self.positions}"
        where = {"last": "last token", "subject_last": "last subject token"}.get(str(self.positions), where)
        heads = "" if self.heads is None else f", heads {', '.join(map(str, self.heads))}"
        share = self.norm / self.typical
        lines = [
            f"mean of {len(self.positive)} prompts less mean of {len(self.negative)}, {where}",
            f"norm {self.norm:z.4g}, {share:z.2f} of the activations' own ({self.typical:z.4g})",
            f"separation {self._separation()}",
            *(f"{name}: {_some(texts)}" for name, texts in (("+", self.positive), ("-", self.negative))),
        ]
        return page(f"Direction: {times}{self.site} of {self.model}{heads}", lines, self.notes)

    def _separation(self) -> str:
        if self.separation is None:
            return "unknown: it takes three different prompts in each list to hold some out"
        return (
            f"{self.separation:z.3f}: the share of pairs, a positive and a negative prompt, held out and told apart "
            "rightly by the direction of the others"
        )


def _number(k: Any) -> float | None:
    """A finite number, of Python, NumPy or MLX; None for anything else. InputError when it is not finite."""
    value: Any = k.item() if getattr(k, "ndim", 1) == 0 else k
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = float(value)
    if not np.isfinite(number):
        raise InputError(f"a direction is multiplied by a finite number, not by {k!r}")
    return number


def _array(x: Any) -> Any:
    """Another direction as its vector, a NumPy array as MLX's, anything else as it is."""
    if isinstance(x, Direction):
        return x.vector
    return mx.array(x) if isinstance(x, np.ndarray) else x


def _some(texts: list[str]) -> str:
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(quoted(elided(text, MOST)) for text in texts[:SHOWN]) + more
