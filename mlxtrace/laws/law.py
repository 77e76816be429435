"""What a law is, and what measuring it gives.

    @law("two plain runs agree to the bit", distrust="any number: this model's own answer changes from run to run")
    def repeats(tested: ModelUnderTest) -> Measurement: ...      # or raise DoesNotApply(why)

A law is an identity that must hold for any model, so that a model whose right answers nobody knows can still be
checked: an untouched trace changes no bit, the whole stream of another run gives that run's logits, all engines
give the same numbers. `registry` lists them in the order of the check's table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


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
