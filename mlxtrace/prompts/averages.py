"""Averages of causal traces over facts, by the role of a token and by layer, with 95 % intervals.

    average = average_traces([[one, mlp, attn], ...])       # a list of traces for each fact, one of each kind
    average.indirect_effect      # [kinds, roles, layers];  average.interval: the half-width of its 95 % interval

Facts differ in length, so their tokens are pooled by what they are: first, middle and last token of the subject,
the token after it, those further on, and the last (Meng et al. 2022, figure 2 and appendix B.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from ..results.average_trace import AverageTrace
from ..results.causal_trace_result import CausalTrace
from ..results.intervals import ratio_of_means
from ..text.regions import ROLES, roles_of


def interval_of(sums: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of pooled tokens and the half-width of its 95 % interval, facts being the independent units.

    sums: `[facts, layers]`, each fact's sum over its tokens of that role; sizes: `[facts]`, how many. The mean is the
    ratio of both. NaN where there is no token, or a single fact.
    """
    found = ratio_of_means(np.where(sizes[:, None] > 0, sums, np.nan), sizes[:, None])
    return found.value, found.half


def average_traces(facts: Sequence[Sequence[CausalTrace]], ids: Sequence[str], **more: Any) -> AverageTrace:
    """Average the traces of facts, one trace of each kind for every fact; InputError when there is none."""
    if not facts:
        raise InputError("there is no trace to average")
    kinds = [trace.kind for trace in facts[0]]
    roles = [roles_of(traces[0].subject_range, len(traces[0].tokens)) for traces in facts]
    sizes = np.array([[len(positions) for positions in by_role] for by_role in roles])
    n_layers = facts[0][0].raw.shape[1]
    sums = np.zeros((len(kinds), len(ROLES), len(facts), n_layers))
    for f, (traces, by_role) in enumerate(zip(facts, roles, strict=True)):
        for k, trace in enumerate(traces):
            effect = trace.indirect_effect
            for r, positions in enumerate(by_role):
                sums[k, r, f] = effect[positions].sum(0)
    pooled = [[interval_of(sums[k, r], sizes[:, r]) for r in range(len(ROLES))] for k in range(len(kinds))]
    pooled = np.array(pooled)  # [kinds, roles, mean and half-width, layers]
    high, low = (np.array([getattr(t[0], name) for t in facts]) for name in ("high_score", "low_score"))
    total, half = interval_of((high - low)[:, None], np.ones(len(facts)))
    return AverageTrace(
        indirect_effect=pooled[:, :, 0],
        interval=pooled[:, :, 1],
        kinds=kinds,
        counts=sizes.sum(0).tolist(),
        total_effect=float(total[0]),
        total_interval=float(half[0]),
        high_score=float(high.mean()),
        low_score=float(low.mean()),
        window=max(trace.window for trace in facts[0]),
        model=facts[0][0].model,
        ids=list(ids),
        **more,
    )
