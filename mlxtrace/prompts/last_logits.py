"""The last logits of many prompts: those of one length are rows of a batch, and no more is kept than is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from ..engine.runs import Run, capture
from ..metrics import softmax

ROWS, TOKENS = 64, 4096  # the most in a batch
T = TypeVar("T")


def of_each(model: Any, prompts: Sequence[Any], of: Callable[[int, np.ndarray], T]) -> list[T]:
    """`of(i, probabilities)` for each prompt: the float64 probabilities `[V]` of what follows prompt i.

    A batch rounds otherwise than a single prompt does, in the last digits of float32.
    """
    found: dict[int, T] = {}
    for batch in batches([len(prompt) for prompt in prompts]):
        logits = capture(model.resolver, tuple(Run(tuple(prompts[i].ids)) for i in batch), [])[0]
        for i, row in zip(batch, softmax(logits), strict=True):
            found[i] = of(i, row)
    return [found[i] for i in range(len(prompts))]


def batches(lengths: Sequence[int]) -> list[list[int]]:
    """The numbers of prompts that are run together: of one length, and not too many."""
    made = []
    for length in sorted(set(lengths)):
        same, most = [i for i, n in enumerate(lengths) if n == length], max(1, min(ROWS, TOKENS // length))
        made += [same[i : i + most] for i in range(0, len(same), most)]
    return made
