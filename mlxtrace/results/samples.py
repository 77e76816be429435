"""What cells recover of noised runs of which each cell had as many samples as it took, with 95 % intervals.

    found = over_samples(values, corrupted, clean, names)    # values [metrics, cells, samples], NaN for none
    found.value, found.half, found.n                         # [metrics, cells]: the metric, percent of the gap, counts

A cell's samples are set against the corrupted run with the same noise: over its own n samples its recovery is
`R = sum(x_i) / sum(y_i)`, with `x_i = patched_i - corrupted_i` and `y_i = clean - corrupted_i`: what a run of n samples
gives. R times the gap over all samples that the corrupted run had is what the cell changes (a ratio estimate, Cochran
1977, section 6.1). Its standard error is `sqrt(sum((x_i - R y_i)^2) / (n (n - 1))) / |mean y|` (section 6.4), 0 for a
cell that restores nothing, or all, with every noise; the interval is Student's.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..metrics import floor
from .intervals import Estimate

NORMAL_95 = 1.959964  # standard errors on either side, where there are many samples


def over_samples(values: Any, corrupted: Any, clean: Any, names: Sequence[str]) -> Estimate:
    """The metrics of each cell, the half-widths of its recoveries' intervals in percent, and how many samples it had.

    Where the gap over a cell's samples is too small to mean anything, what it changes is the plain mean of x, and its
    interval is in percent of the smallest gap that means something; it is 0 where no sample is farther than that from
    the clean run or the corrupted one, as differences so small are rounding.

    Args:
        values: `[metrics, cells, samples]`, NaN behind the samples that a cell had.
        corrupted: `[metrics, samples]`, the run with the same noise and nothing patched.
        clean: `[metrics]`.
        names: of the metrics.

    Returns:
        An `Estimate`; the half-width is NaN where there is one sample.
    """
    values, corrupted, clean = (np.asarray(x, np.float64) for x in (values, corrupted, clean))
    low = corrupted.mean(-1)
    least = np.array([floor(name, *ends) for name, *ends in zip(names, clean, low, strict=True)])[:, None]
    there, plain = ~np.isnan(values), corrupted[:, None]
    n = there.sum(-1)
    x = np.where(there, values - plain, 0.0)
    y = np.where(there, clean[:, None, None] - plain, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):  # of one sample there is no interval
        change, gap = x.sum(-1) / n, y.sum(-1) / n
        ratio = np.where(np.abs(gap) >= least, change / gap, 0.0)
        residuals = np.where(there, x - ratio[..., None] * y - (change - ratio * gap)[..., None], 0.0)
        error = np.sqrt((residuals**2).sum(-1) / (n * (n - 1)))
        error = np.where((np.maximum(np.abs(x), np.abs(y)) < least[..., None]).all(-1), 0 * error, error)
        half = 100 * student_95(n - 1) * error / np.maximum(np.abs(gap), least)
        value = low[:, None] + change + ratio * ((clean - low)[:, None] - gap)
    return Estimate(value, half, n)


def of_corrupted(corrupted: Any, clean: Any, names: Sequence[str]) -> np.ndarray:
    """The half-width of the 95 % interval of each metric's gap, `[metrics]`, in percent of it; 0 of rounding."""
    x, clean = np.asarray(corrupted, np.float64), np.asarray(clean, np.float64)
    low, n = x.mean(-1), x.shape[-1]
    least = np.array([floor(name, *ends) for name, *ends in zip(names, clean, low, strict=True)])
    nothing = (np.abs(clean[:, None] - x) < least[:, None]).all(-1)
    error = x.std(-1, ddof=1) / np.sqrt(n) * ~nothing
    return 100 * student_95(n - 1) * error / np.maximum(np.abs(clean - low), least)


def stated(half: np.ndarray, within: float) -> np.ndarray:
    """Half-widths as they are stated: no narrower than what was asked for, at which sampling stopped.

    Of cells in which no sample differs from the corrupted run, or from the clean one, they are 0.
    """
    return np.where(half > 0, np.maximum(half, within), half)


def student_95(freedom: Any) -> np.ndarray:
    """Student's t of 95 % on both sides; NaN below one degree of freedom.

    From four degrees on by Fisher's expansion (Abramowitz and Stegun 1964, 26.7.5), within 0.001.
    """
    nu, z = np.asarray(freedom, np.float64), NORMAL_95
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        found = sum(term / nu**i for i, term in enumerate(terms))
    few = {1: 12.706205, 2: 4.302653, 3: 3.182446}
    return np.select([nu < 1, *(nu == k for k in few)], [np.nan, *few.values()], found)


class OverSamples:
    """What a causal trace says of its samples: as many for every cell, or for each as many as it took.

    raw, corrupted_raw, high_score, within: of the trace.
    """

    raw: np.ndarray
    corrupted_raw: np.ndarray | None
    high_score: float
    within: float | None

    @property
    def scores(self) -> np.ndarray:
        """`[positions, layers]`: the mean over samples of the answer's probability.

        With samples="until" what a cell brings back over its own samples, as a part of the gap over all.
        """
        return (
            self.raw.mean(-1) if self.corrupted_raw is None else self._estimate.value[0].reshape(self._shape)
        )

    @property
    def samples(self) -> np.ndarray | int:
        """How many samples of noise each cell had, `[positions, layers]`; one number where all had as many."""
        return self.raw.shape[-1] if self.corrupted_raw is None else self._estimate.n[0].reshape(self._shape)

    @property
    def interval(self) -> np.ndarray:
        """`[positions, layers]`: with samples="until" half-widths of the recoveries' 95 % intervals, percent; else NaN.

        They are no narrower than what was asked for.
        """
        if self.corrupted_raw is None:
            return np.full(self._shape, np.nan)
        return stated(self._estimate.half[0], self.within or 0.0).reshape(self._shape)

    @property
    def drawn(self) -> str:
        """How many samples there are, in words."""
        if self.corrupted_raw is None:
            return f"{self.raw.shape[-1]} samples"
        n = np.asarray(self.samples)
        few, most = n.min(), n.max()
        return f"{few} to {most} samples a cell" if few < most else f"{few} samples"

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.raw.shape[:2]

    @functools.cached_property
    def _estimate(self) -> Any:
        values = self.raw.reshape(1, -1, self.raw.shape[-1])
        return over_samples(values, np.array([self.corrupted_raw]), [self.high_score], ["prob"])

    @property
    def in_order(self) -> bool:
        """Whether each cell has a sample, and none behind its last."""
        had = ~np.isnan(self.raw)
        return bool(had[..., 0].all() and (had[..., 1:] <= had[..., :-1]).all())
