"""Times contenders in turn on one case, and checks that they agree."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from . import THREADS, floor, use_threads
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
    textbook: tuple[float, float] = (0.0, 0.0)
    threads: int = THREADS
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
    seconds: list[list[float]] = [[] for _ in contenders]
    values: list[dict] = [{} for _ in contenders]
    for contender in contenders:  # warm
        contender.prepare(case)
        contender.run(case, case.some(2, seed=0))
    for repeat in range(repeats):
        for i, contender in enumerate(contenders):
            cells = case.cells if contender.whole else case.some(sample, seed=repeat)
            took, found = _once(contender, case, cells)
            seconds[i].append(took)
            values[i].update(zip(cells, found, strict=True))
    use_threads(THREADS)
    need, loop = floor.needed(case), floor.textbook(case)
    reference = values[0]
    rows = []
    for i, c in enumerate(contenders):
        off = np.max([np.abs(v - reference[cell]) for cell, v in values[i].items()], axis=0)
        took = statistics.median(seconds[i])
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
                len(values[i]),
                repeats,
                took,
                (min(seconds[i]), max(seconds[i])),
                took / statistics.median(seconds[0]),
                float(off[0]),
                float(off[1]),
                2 * need.multiply_adds / speeds[0],
                need.tokens * speeds[1],
                (2 * loop.multiply_adds / speeds[0], loop.tokens * speeds[1]),
                getattr(c, "threads", THREADS),
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
