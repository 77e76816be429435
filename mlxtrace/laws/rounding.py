"""How far a model's own logits move when only the batch changes, and what a law may therefore allow.

    floor = measure(net, vocab_size)
    floor.typical, floor.most        # of the rows: the median's movement and the worst one's, relative
    Tolerance(resolver).limit        # the error that a law allows on this model

A prompt's logits should not depend on how many others run beside it, nor in which order. In floating point they do
a little, and with experts or top-k choices one row in many jumps where a choice ties. What is more than that is a
fault of the model or its backend, and no law's tolerance may grow to hide it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..anatomy.recording import forward
from ..anatomy.resolver import ModuleResolver
from ..engine import calibration
from .law import TooNoisy

LENGTH, LEAST_ROWS, MOST_ROWS = 10, 8, 60
MOST_LOGITS = 1 << 24  # of one pass: what a large vocabulary leaves of the rows
TIMES = 10  # a law compares a few hundred rows, so it may meet a worse one than was met here


@dataclass(frozen=True)
class Floor:
    """Movements of rows, relative to the largest logit: the median row's (in the worst comparison), the worst row's."""

    typical: float
    most: float


class Tolerance:
    """The errors that laws allow on one model, relative to the largest value."""

    def __init__(self, resolver: ModuleResolver):
        self.resolver = resolver

    @functools.cached_property
    def limit(self) -> float:
        """What rounding does in this model's precision, or ten times what its own logits move with the batch, but never
        more than the cap; TooNoisy when they move more.
        """
        if self.floor.most > self.cap:
            raise TooNoisy(f"{self.describe()}; the most that any law may allow is {self.cap:.1g}")
        return min(self.cap, max(self.least, TIMES * self.floor.most))

    @functools.cached_property
    def floor(self) -> Floor:
        """How far this model's own logits move."""
        return measure(self.resolver.net, self.resolver.structure.vocab_size)

    @property
    def dtype(self) -> mx.Dtype:
        """The precision in which the model computes."""
        return calibration.compute_dtype(self.resolver)

    @property
    def least(self) -> float:
        """What rounding may do in any model of this precision."""
        return self._by_precision(calibration.ROUNDING)

    @property
    def cap(self) -> float:
        """The most that a law may allow in this precision, however much the model itself moves."""
        return self._by_precision(calibration.CAPS)

    def _by_precision(self, table: dict[mx.Dtype, float]) -> float:
        return table.get(self.dtype, table[mx.bfloat16])

    def describe(self) -> str:
        """The floor in a sentence."""
        return f"this model's own logits move by up to {self.floor.most:.2g} with the rows beside them and their order"


def measure(net: nn.Module, vocab_size: int) -> Floor:
    """Some random prompts in one batch, against the reversed batch, small batches, and each of them alone."""
    rows = int(np.clip(MOST_LOGITS // (LENGTH * vocab_size), LEAST_ROWS, MOST_ROWS))
    ids = np.random.RandomState(0).randint(0, vocab_size, (rows, LENGTH))
    whole = _logits(net, ids)
    scale = np.abs(whole).max(where=np.isfinite(whole), initial=1e-12)
    parts = np.concatenate([_logits(net, ids[i : i + 7]) for i in range(0, rows, 7)])
    alone = np.concatenate([_logits(net, row[None]) for row in ids])
    moved = [
        _moved(_logits(net, ids[::-1].copy())[::-1], whole) / scale,
        _moved(parts, whole) / scale,
        _moved(alone, whole) / scale,
    ]
    return Floor(max(float(np.median(m)) for m in moved), max(float(m.max()) for m in moved))


def _logits(net: nn.Module, ids: np.ndarray) -> np.ndarray:
    """float32 `[rows, T, V]`."""
    return np.array(forward(net, mx.array(ids)).astype(mx.float32))


def _moved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The largest difference of each row; infinite where there is a NaN."""
    with np.errstate(invalid="ignore"):
        moved = np.where(a == b, 0, np.abs(a - b)).max((1, 2))
    return np.where(np.isnan(moved), np.inf, moved)
