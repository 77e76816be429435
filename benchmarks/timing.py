"""Times contenders in turn on one case, and checks that they agree."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from . import floor
from .cases import Case

AGREE = {"prob": 2e-6, "logit": 5e-5}  # how far float32 runs of the same cell may be apart


@dataclass
class Row:
    """One contender on one case.

    seconds: of the whole map, median of the repeats. A contender that runs cell by cell may be timed on a random
    sample of `timed` cells per repeat: its preparation, and the time per cell times `cells`. ratio: of its
    seconds to those of the first contender of the case. off_prob, off_logit: largest difference from the first
    contender over the cells that both ran. floor: the lower bound in seconds; see `floor`.
    """

    section: str
    case: str
    component: str
    window: int
    samples: int
    layers: int
    length: int
    contender: str
    cells: int
    timed: int
    repeats: int
    seconds: float
    spread: tuple[float, float]
    ratio: float
    off_prob: float
    off_logit: float
    floor: float
    activation: float
    plan: dict | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of one call, and what it gave."""
    began = time.perf_counter()
    given = work()
    return time.perf_counter() - began, given


def median_of(work: Callable[[], Any], repeats: int) -> float:
    """Median seconds of a call that was made once before."""
    work()
    return statistics.median(timed(work)[0] for _ in range(repeats))


def compare(
    section: str, case: Case, contenders: list, speeds: tuple[float, float], repeats: int, sample: int
):
    """Rows of all contenders on a case, the first being the one that others are measured against.

    speeds: floating-point operations a second, and seconds per token of an activation function.
    """
    seconds: dict[str, list[float]] = {c.name: [] for c in contenders}
    values: dict[str, dict] = {c.name: {} for c in contenders}
    for contender in contenders:  # warm
        contender.prepare(case)
        contender.run(case, case.some(2, seed=0))
    for repeat in range(repeats):
        for contender in contenders:
            cells = case.cells if contender.whole else case.some(sample, seed=repeat)
            took, found = _once(contender, case, cells)
            seconds[contender.name].append(took)
            values[contender.name].update(zip(cells, found, strict=True))
    need = floor.needed(case)
    first = contenders[0].name
    reference = values[first]
    rows = []
    for c in contenders:
        off = np.max([np.abs(v - reference[cell]) for cell, v in values[c.name].items()], axis=0)
        took = statistics.median(seconds[c.name])
        rows.append(
            Row(
                section,
                case.name,
                case.component,
                case.window,
                case.samples,
                case.shape.layers,
                case.length,
                c.name,
                len(case.cells),
                len(values[c.name]),
                repeats,
                took,
                (min(seconds[c.name]), max(seconds[c.name])),
                took / statistics.median(seconds[first]),
                float(off[0]),
                float(off[1]),
                2 * need.multiply_adds / speeds[0],
                need.tokens * speeds[1],
                c.plan.to_dict() if getattr(c, "plan", None) is not None else None,
            )
        )
    return rows


def _once(contender: Any, case: Case, cells: list) -> tuple[float, np.ndarray]:
    """Seconds of the whole map, from the preparation and some cells, and the values of these."""
    before, _ = timed(lambda: contender.prepare(case))
    took, found = timed(lambda: contender.run(case, cells))
    if contender.whole:
        return took, found
    if contender.prepares_again:
        took -= before
    return before + took / len(cells) * len(case.cells), found
