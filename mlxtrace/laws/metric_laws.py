"""The law of metrics: each of them and its recovery, against its formula written a second time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..metric_table import METRICS
from .law import Measurement, law
from .pair_by_hand import SUBJECT, ModelUnderTest, PairByHand

# Gaps of which a recovery is not refused, ten times over; 1e-2 for the others.
LEAST_GAPS = {"prob": 1e-6, "kl": 1e-5, "rank": 0.6, "l2": 5e-2, "cosine": 1e-6, "prob_diff": 2e-4}


@law(
    "every metric and its recovery, by hand",
    f"metrics: {', '.join(METRICS)}",
)
def metrics(tested: ModelUnderTest) -> Measurement:
    """All metrics, and a function, of one sweep. Errors are held to what the logits' rounding makes of them."""
    layers = tested.first_middle_last()
    component = tested.components_in_all(["mlp", "attn", "resid_post"], layers)[0]
    pair, at = PairByHand(tested, [component], layers), [*SUBJECT, 6]
    rows = np.stack([pair.patched("denoise", component, [i], at, at)[0] for i in layers])
    usable = [name for name in METRICS if abs(_gap(pair, name)) > LEAST_GAPS.get(name, 1e-2)]
    result = pair.experiment(component, layers=layers, positions=at, metric=usable)
    errors: list[float] = []
    for i, name in enumerate(usable):
        several = len(usable) > 1
        raw, recovery = (x[i] if several else x for x in (result.raw, result.recovery))
        errors += _errors(pair, name, result, (raw, recovery), rows, tested.limit)
    skipped = [name for name in METRICS if name not in usable]
    of_clean, of_corrupted = (float(mean_logit(x).mean()) for x in (pair.clean_logits, pair.corrupted_logits))
    if abs(of_clean - of_corrupted) > 2e-6 + 2e-4 * abs(of_clean):  # else it is refused
        found = pair.experiment(component, layers=layers, positions=at, metric=["logit", mean_logit])
        own = found.raw[-1].ravel() - mean_logit(rows).ravel()
        errors.append(float(np.abs(own).max()) / pair.scale)
    else:
        skipped.append("a function")
    return Measurement(
        max(errors), tested.limit, f"not {', '.join(skipped)}: moved too little" if skipped else ""
    )


def _errors(
    pair: PairByHand,
    name: str,
    result: Any,
    found: tuple[np.ndarray, np.ndarray],
    rows: np.ndarray,
    limit: float,
) -> list[float]:
    """Errors of one metric's values, of the plain runs' and of the recoveries, as errors of logits."""
    raw, recovery = found
    if name == "rank":  # tokens that tie to rounding may stand on either side
        low, high = _ranks(rows, pair.target, limit * pair.scale)
        return [limit * float(np.maximum(low - raw, raw - high).max() > 0) * 10]
    slope = _slope(name, pair, rows)
    clean, corrupted = pair.plain_values(name)
    plain_runs = [x[name] if isinstance(x, dict) else x for x in (result.clean, result.corrupted)]
    plain = max(abs(plain_runs[0] - clean), abs(plain_runs[1] - corrupted))
    again = 100 * (raw - corrupted) / (clean - corrupted)
    allowed = 400 * limit * pair.scale * slope / abs(clean - corrupted) + 1e-6
    return [
        float(np.abs(raw - pair.value(rows, name)).max()) / (slope * pair.scale),
        plain / (max(slope, 1e-9) * pair.scale),
        limit * float(np.abs(again - recovery).max()) / allowed,
    ]


def mean_logit(logits: np.ndarray) -> np.ndarray:
    """A metric as a user writes one: the mean over the tokens that are not ruled out."""
    return np.where(np.isfinite(logits), logits, 0).mean(-1)


def _gap(pair: PairByHand, name: str) -> float:
    clean, corrupted = pair.plain_values(name)
    return clean - corrupted


def _slope(name: str, pair: PairByHand, rows: np.ndarray) -> float:
    """How much a metric may move when every logit moves by 1."""
    finite = np.isfinite(pair.clean_logits).sum()
    if name == "l2":
        return 2 * math.sqrt(finite)
    if name == "cosine":
        shortest = np.sqrt((np.where(np.isfinite(rows), rows, 0) ** 2).sum(-1)).min()
        return 4 * math.sqrt(finite) / float(shortest)
    return {"prob": 1.0, "logit": 1.0, "kl": 4.0}.get(name, 2.0)


def _ranks(rows: np.ndarray, target: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest rank that the target may have when logits are off by `step`."""
    own = rows[:, target, None]
    return (rows > own + 2 * step).sum(-1), (rows > own - 2 * step).sum(-1) - 1
