"""Causal traces made of plain numbers, for tests of what is computed from them."""

from __future__ import annotations

import numpy as np

from mlxtrace.results.causal_trace_result import CausalTrace
from mlxtrace.results.comparison import Comparison
from mlxtrace.results.saved import Answer


def trace(scores, subject=range(1, 3), low=0.1, high=0.9, positions=None) -> CausalTrace:
    """A trace with these scores `[tokens, layers]`, of one sample."""
    scores = np.asarray(scores, float)
    positions = list(range(len(scores))) if positions is None else positions
    length = max(positions) + 1
    return CausalTrace(
        raw=scores[..., None],
        low_score=low,
        high_score=high,
        answer=Answer(1, " Paris", high, low),
        subject_range=subject,
        positions=positions,
        tokens=[f" t{i}" for i in range(length)],
        ids=list(range(length)),
        noise_level=0.1,
        kind=None,
        window=1,
        severed=None,
        prompt="a prompt",
        model="one",
    )


def compared(first, second, **more) -> Comparison:
    """The comparison of two traces with these scores."""
    return Comparison(trace(first, **more), trace(second, **more), ("one", "4 bits"))
