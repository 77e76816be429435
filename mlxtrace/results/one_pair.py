"""One pair is a set of one: what a set says of its pairs, said of a result that has a single one."""

from __future__ import annotations

import numpy as np


class OnePair:
    """What a set of pairs has besides its means, for one pair: no names, no intervals, one number to a cell.

    raw, recovery: of the result, arrays of one shape.
    """

    raw: np.ndarray
    recovery: np.ndarray
    settings: dict

    @property
    def ids(self) -> list[str]:
        """The pairs of a set; none for the result of one pair."""
        return []

    @property
    def per_pair(self) -> np.ndarray:
        """The metric's own values with an axis for the pairs before the others: here of length 1."""
        return self.raw[None]

    @property
    def n(self) -> np.ndarray:
        """How many pairs there are to a cell, shaped as `recovery`."""
        return np.ones(self.raw.shape, int)

    @property
    def interval(self) -> np.ndarray:
        """The half-width of each recovery's 95 % interval, percent: NaN, as one pair has none over pairs.

        Where samples of noise were drawn until cells were known it is over the samples, and no narrower than was asked.
        """
        return np.asarray(self.settings.get("sampling", {}).get("half", np.full(self.raw.shape, np.nan)))

    @property
    def samples(self) -> np.ndarray | int:
        """How many samples of noise each cell had, where they were drawn until it was known; else that of all cells.

        1 where nothing was drawn. Where the tokens of a region are averaged, the mean of theirs.
        """
        sampling = self.settings.get("sampling")
        return self.settings.get("samples", 1) if sampling is None else np.asarray(sampling["samples"])

    @property
    def low(self) -> np.ndarray:
        """Where each recovery's interval begins, percent."""
        return self.recovery - self.interval

    @property
    def high(self) -> np.ndarray:
        """Where each recovery's interval ends, percent."""
        return self.recovery + self.interval
