"""Samples of noise until cells are known: round by round, and in each round only the cells that are still open.

    found = sweep_until(model, jobs, settle, progress)      # as `sweep_pairs`, of jobs with an `UntilRun`
    found[0][1].values       # [metrics, cells, samples], NaN behind the samples that a cell had

All cells get the first samples of the generator. After each round every cell has a recovery and its 95 % interval over
the samples that it had (see `results.samples`: paired with the corrupted run of the same noise). A cell is closed

- when it had four samples or more and its interval is within the asked points on either side: it is known; or
- when it ends below where those of the strongest five begin: it is clear that it is none of them. This is a race (Maron
  and Moore 1994, "Hoeffding races", with Student's intervals in place of Hoeffding's, which hold for any noise and are
  many times wider).

The others get more, up to 100 in all. The corrupted run goes on until its own mean is within as many percent of the
gap. Intervals that are looked at again and again, of few samples and of noise that is not normal, hold less often than
they say. So a stated one is no narrower than what was asked for; how many of those hold was measured, not proven.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..results.samples import Estimate, of_corrupted, over_samples, stated
from .answers import InputError, probability_of
from .sweeps import Job, Outcome, Plan, check_plans, joined, plan_of, progress_bar, sweep_pairs

ROUNDS = (2, 4, 6, 9, 13, 19, 28, 40, 60, 80, 100)  # samples in all, after each round
STRONGEST = 5  # cells that are told from the others, as many as results name
FEWEST = 4  # samples of a cell that may be one of them: two that agree rule out, but do not name
ROUNDING = 1e-3  # points of recovery: a cell whose samples differ by less is the same with every noise
STEPS = tuple(itertools.pairwise((0, *ROUNDS)))


@dataclass
class Sampled(Outcome):
    """An outcome of one value to a cell, `values[metric, cell, 1]`.

    half: half-widths of the recoveries' 95 % intervals as stated, percent, and n: how many samples there were, both
    `[metrics, cells]`.
    """

    half: np.ndarray
    n: np.ndarray
    within: float

    def said(self, by_label: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any]:
        """What a result keeps in its settings. by_label: makes `[metrics, cells]` of the result's shape."""
        arrays = {"samples": by_label(self.n), "half": by_label(self.half)}
        sampling = {"within": self.within, **{name: x.tolist() for name, x in arrays.items()}}
        return {"samples": "until", "sampling": sampling}


@dataclass
class PlanUntil(Plan):
    """What is run at most, all cells having all samples.

    Attributes:
        least: rows at least, with the first round alone. least_seconds: what these take.
    """

    least: int = 0
    least_seconds: float = 0.0

    def __str__(self) -> str:
        rows = f"{self.rows} rows at most, {self.least} at least"
        lines = super().__str__().replace(f"{self.rows} rows in all", rows)
        return lines.replace("time        about ", f"time        about {self.least_seconds:.2g} to ")


class Race:
    """The cells of one pair: their values so far, and which of them are open.

    Args:
        job: with an `UntilRun` as its base or as its source.
    """

    def __init__(self, job: Job):
        self.job, self.denoise = job, hasattr(job.base, "within")
        self.noised: Any = job.base if self.denoise else job.source
        self.within = self.noised.within
        self.open = np.ones(len(job.cells), dtype=bool)
        self.measured: Any = None
        self.answers: dict[str, list[float]] = {}  # how likely each sample makes the target and the foil
        self.values = np.empty((0, len(job.cells), 0))
        self.corrupted = self.clean = np.empty((0, 0))

    @property
    def names(self) -> list[str]:
        """The metrics."""
        found = getattr(self.measured, "metrics", None) or [self.measured.probability]
        return [metric.name for metric in found]

    @property
    def goes_on(self) -> bool:
        """Whether a cell is open, or the gap is not known yet."""
        if self.measured is None:
            return True
        wide = of_corrupted(self.corrupted, self.clean, self.names) > self.within
        return bool(self.open.any() or wide.any())

    def part(self, begin: int, end: int) -> Job:
        """The job of some samples of the open cells."""
        part = {"base" if self.denoise else "source": self.noised.part(begin, end)}
        cells = [cell for cell, is_open in zip(self.job.cells, self.open, strict=True) if is_open]
        return replace(self.job, cells=cells, **part)

    def settled(self, logits: tuple[np.ndarray, ...], settle: Callable[[], Any]) -> Any:
        """What rows are measured with, settled in the first round; how likely the corrupted run makes the answers."""
        self.measured = self.measured or settle()
        corrupted = logits[0] if self.denoise else logits[1]
        for name in ("target", "foil"):
            answer = getattr(self.measured, name, None)
            if answer is not None:
                self.answers.setdefault(name, []).extend(probability_of(self.measured, name, corrupted))
        return self.measured

    def take(self, outcome: Outcome) -> int:
        """Take what a part gave, and close what is known; how many cells were closed."""
        corrupted, clean = (outcome.base, outcome.source) if self.denoise else (outcome.source, outcome.base)
        new = np.full((len(corrupted), len(self.open), corrupted.shape[-1]), np.nan)
        new[:, self.open] = outcome.values
        if not self.corrupted.size:
            self.corrupted, self.clean, self.values = corrupted, clean[:, 0], new
        else:
            self.corrupted = np.concatenate([self.corrupted, corrupted], -1)
            self.values = np.concatenate([self.values, new], -1)
        before = self.open.sum()
        self.open = self.open & self._matters(self.estimate())
        return int(before - self.open.sum())

    def estimate(self) -> Estimate:
        """What each cell has come to."""
        return over_samples(self.values, self.corrupted, self.clean, self.names)

    def outcome(self, plan: Plan) -> Outcome:
        """Every sample's values, NaN where a cell had none."""
        corrupted, clean = self.corrupted, self.clean[:, None]
        base, source = (corrupted, clean) if self.denoise else (clean, corrupted)
        return Outcome(self.values, base, source, plan)

    def estimated(self, plan: Plan) -> tuple[Any, Sampled]:
        """What is measured, of all samples that the corrupted run had, and what each cell has come to."""
        found, whole = self.estimate(), self.outcome(plan)
        half = stated(found.half, self.within)
        measured = replace(
            self.measured,
            corrupted=dict(zip(self.names, self.corrupted.mean(-1).tolist(), strict=True)),
            remarks=(*self.measured.remarks, *notes_until(found.n[0], half[0], self.within)),
            **{
                name: replace(getattr(self.measured, name), corrupted_prob=float(np.mean(probs)))
                for name, probs in self.answers.items()
            },
        )
        values = found.value[..., None]
        return measured, Sampled(values, whole.base, whole.source, plan, half, found.n, self.within)

    def _matters(self, found: Estimate) -> np.ndarray:
        """Whether a cell is not known yet, and may be one of the strongest, by any metric."""
        low = self.corrupted.mean(-1)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):  # no gap: nothing is stronger than anything else
            recovery = 100 * (found.value - low) / (self.clean[:, None] - low)
        strength = np.nan_to_num(recovery if self.denoise else -recovery)
        few = (found.n < FEWEST) & (found.half > ROUNDING)
        return (((found.half > self.within) | few) & may_be_strongest(strength, found.half)).any(0)


def may_be_strongest(strength: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Whether an interval `[..., cells]` reaches to where those of the strongest begin, or there are no more cells."""
    half = np.nan_to_num(half)
    if strength.shape[-1] <= STRONGEST:
        return np.ones(strength.shape, dtype=bool)
    least = np.partition(strength - half, -STRONGEST, axis=-1)[..., -STRONGEST, None]
    return strength + half >= least


def sweep_until(
    model: Any,
    jobs: Sequence[Job],
    settle: Callable[[int, np.ndarray, np.ndarray], Any],
    progress: bool | None = None,
    **options: Any,
) -> list[tuple[Any, Outcome]]:
    """Sweep some pairs with noise until their cells are known; as `sweep_pairs`, NaN for samples that a cell lacks.

    settle is given the logits of the first round. InputError when some jobs have a number of samples.
    """
    races, plan = _raced(model, jobs, settle, progress, **options)
    return [(race.measured, race.outcome(plan)) for race in races]


def patched_until(*asked: Any, **options: Any) -> list[tuple[Any, Sampled]]:
    """The same with one value to a cell, its interval and its number of samples; notes say what these are."""
    races, plan = _raced(*asked, **options)
    return [race.estimated(plan) for race in races]


def _raced(
    model: Any,
    jobs: Sequence[Job],
    settle: Callable[..., Any],
    progress: bool | None = None,
    before: Callable[[Plan], Any] | None = None,
    **options: Any,
) -> tuple[list[Race], Plan]:
    """The cells of every pair when all are closed, and what was run. before: is told the plan before anything is."""
    _check_all(jobs)
    if before is not None:
        before(plan_until(model, jobs, **options))
    races, plans = [Race(job) for job in jobs], []
    widest = max(STEPS, key=lambda step: step[1] - step[0])
    check_plans(model, [race.part(*widest) for race in races], **options)  # all is refused before any is run
    with progress_bar(sum(len(job.cells) for job in jobs), progress) as bar:
        for step in STEPS:
            going = [i for i, race in enumerate(races) if race.goes_on]
            if not going:
                break

            def settled(j: int, *logits: np.ndarray, going: list[int] = going) -> Any:
                return races[going[j]].settled(logits, lambda: settle(going[j], *logits))

            found = sweep_pairs(model, [races[i].part(*step) for i in going], settled, False, **options)
            plain = sum(step[1] - step[0] for i in going if not races[i].open.any())
            plans.append(replace(found[0][1].plan, rows=found[0][1].plan.rows + plain))
            bar.update(sum(races[i].take(outcome) for i, (_, outcome) in zip(going, found, strict=True)))
        bar.update(sum(int(race.open.sum()) for race in races))  # those that had all samples
    return races, _all_rounds(plans)


def plan_until(model: Any, jobs: Sequence[Job], **options: Any) -> Plan:
    """What it costs at most, all cells having all samples, and at least."""
    _check_all(jobs)
    races, by_size = [Race(job) for job in jobs], {}
    for begin, end in STEPS:
        if end - begin not in by_size:  # rounds of as many samples take as much
            by_size[end - begin] = plan_of(model, [race.part(begin, end) for race in races], **options)
    plans = [by_size[end - begin] for begin, end in STEPS]
    return PlanUntil(**vars(_all_rounds(plans)), least=plans[0].rows, least_seconds=plans[0].seconds)


def notes_until(n: np.ndarray, half: np.ndarray, within: float) -> list[str]:
    """How many samples the cells had, and which are not known."""
    said = f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
    notes = [
        f"samples until each cell that may be one of the strongest {STRONGEST} is known within ±{within:g} points of "
        f"recovery: {said} a cell, {n.mean():.1f} on average"
    ]
    unsettled = int(((n >= ROUNDS[-1]) & (half > within)).sum())
    if unsettled:
        notes.append(
            f"{unsettled} cells are not settled: with all {ROUNDS[-1]} samples their intervals are wider than "
            f"±{within:g} points"
        )
    return notes


def _check_all(jobs: Sequence[Job]) -> None:
    if not all(job.until for job in jobs):
        raise InputError('samples="until" is for all pairs of a set: give it for each, or a number for each')


def _all_rounds(plans: Sequence[Plan]) -> Plan:
    """The rounds as one plan, whose cells are those of the first: the others are some of the same."""
    first = plans[0]
    return replace(joined(plans), cells=first.cells, null_cells=first.null_cells)
