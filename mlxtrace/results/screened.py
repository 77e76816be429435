"""What a screen returns: the cells that were run exactly, what gradients had said of them, and what may be missed.

found.verified               # the best of the ranking with their exact effects, the strongest first
found.audit.correlation      # of estimate and effect, over a random sample of all other cells
found.missed_bound           # the largest share of these that can be stronger than the tenth strongest, at 95 %
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np
from matplotlib.figure import Figure

from ..plotting.screen_figure import Look, screen_figure
from .missed import correlation, most_above, rank_correlation
from .saved import Record
from .screened_words import sentences, text, whole_number

HELD = 10  # the strongest cells that a screen is to hold


@dataclass(frozen=True)
class Audit:
    """A random sample of the cells that were not verified, run exactly.

    Attributes:
        drawn, population: how many cells, and of how many.
        above: how many of those drawn are stronger than the threshold.
        correlation, rank_correlation: Pearson's r and Spearman's rho of estimate and effect over those drawn; None
            where there is none.
        rows: the cells that were drawn, the strongest first.
    """

    drawn: int
    population: int
    above: int
    correlation: float | None
    rank_correlation: float | None
    rows: list[dict[str, Any]]


@dataclass(repr=False, eq=False)
class Screened(Record):
    """The strongest cells of a screen, verified and audited. Effects are exact, estimates are guesses by gradients.

    An effect is `patched - base` in the metric, over a set of pairs its mean; a cell's strength is the size of that.

    Attributes:
        verified: the cells that were run because they are ranked first, as in `to_rows`, the strongest first.
        audit: a random sample of all others that can differ from the base run, run as well: an `Audit`.
        threshold: the tenth strongest effect among the verified cells (the weakest where there are fewer).
        missed_bound: with 95 % confidence no larger share of the cells that were not verified is stronger than
            that. missed_cells: the same as a number of cells, those that the audit found among them.
        needed: how many cells of the ranking it takes to have the ten strongest of all that were run; more than were
            verified where the audit found one of these.
        cells, live: all that there are, and those that can differ from the base run: the others have no effect.
        rows, ranks, estimates, per_pair: of each cell that was run where it is, its place in the ranking, what the
            gradients say, and its effect on each pair `[pairs, run]`, NaN where one lacks its region; the first
            `verify` of them are the verified ones.
        methods: by component, how it was ranked. clean, corrupted: the metric of either run, mean over pairs.
        passes, seconds: batched passes of the exact sweeps, and of all there was to do.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> found = model.screen(*prompts, layers=[9], verify=20, audit=10, metric="logit_diff", progress=False)
        >>> found.top(1) == found.verified[:1], 0 <= found.missed_bound <= 1
        (True, True)
    """

    model: str
    methods: dict[str, str]
    metric: str
    direction: str
    positions: Any
    cells: int
    live: int
    verify: int
    rows: list[dict[str, Any]]
    ranks: list[int]
    estimates: np.ndarray
    per_pair: np.ndarray
    clean: float
    corrupted: float
    target: str | None
    foil: str | None
    clean_text: str
    corrupted_text: str
    ids: list[str]
    asked: dict[str, Any]
    ended: str
    passes: int
    seconds: float
    notes: list[str] = field(default_factory=list)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        n = len(self.rows)
        return {"estimates": (n,), "per_pair": (max(1, len(self.ids)), n)}

    def known(self, name: str) -> Any:
        """A pair that lacks a region has no effect there."""
        return ~np.isnan(self.per_pair) if name == "per_pair" else ...

    # ---- numbers

    @property
    def effects(self) -> np.ndarray:
        """The exact effect of each cell that was run, mean over the pairs that have it."""
        there = ~np.isnan(self.per_pair)
        return np.nansum(self.per_pair, 0) / np.maximum(there.sum(0), 1)

    @property
    def threshold(self) -> float:
        """The strength of the tenth strongest verified cell, whatever the audit found."""
        strengths = np.sort(np.abs(self.effects[: self.verify]))[::-1]
        return float(strengths[:HELD][-1]) if len(strengths) else 0.0

    @property
    def missed_cells(self) -> int:
        """The most cells that are stronger than the threshold and were not verified, at 95 % confidence."""
        return most_above(self.live - self.verify, len(self.rows) - self.verify, self._above())

    @property
    def missed_bound(self) -> float:
        """The largest share of the cells that were not verified which can be stronger than the threshold, at 95 %."""
        return self.missed_cells / max(1, self.live - self.verify)

    def _above(self) -> int:
        return int((np.abs(self.effects[self.verify :]) > self.threshold).sum())

    @property
    def audit(self) -> Audit:
        """The random sample, and how well estimate and effect agree over it."""
        estimates, effects = self.estimates[self.verify :], self.effects[self.verify :]
        return Audit(
            drawn=len(effects),
            population=self.live - self.verify,
            above=self._above(),
            correlation=correlation(estimates, effects),
            rank_correlation=rank_correlation(estimates, effects),
            rows=_strongest(self.to_rows()[self.verify :], None),
        )

    @property
    def needed(self) -> int:
        """How many cells of the ranking hold the ten strongest of all that were run."""
        return max((row["rank"] for row in self.top(HELD)), default=0)

    # ---- tables

    def to_rows(self) -> list[dict[str, Any]]:
        """The cells that were run as a table: the verified ones in the order of the ranking, then the audit's.

        Returns:
            One dict per cell: component, layer, head or neuron, position and token or region (those there are), part
            ("verified" or "audit"), rank, estimate (by gradient, a guess), effect (exact), and n, the pairs it is of.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
            >>> found = model.screen(*prompts, layers=[9], component="mlp", metric="logit_diff", progress=False)
            >>> list(found.to_rows()[0])[:5], found.to_rows()[0]["part"]
            (['component', 'layer', 'position', 'token', 'part'], 'verified')
        """
        found, effects, n = [], self.effects, (~np.isnan(self.per_pair)).sum(0)
        for i, row in enumerate(self.rows):
            part = "verified" if i < self.verify else "audit"
            numbers = {"estimate": float(self.estimates[i]), "effect": float(effects[i])}
            found.append({**row, "part": part, "rank": self.ranks[i], **numbers, "n": int(n[i])})
        return found

    @property
    def verified(self) -> list[dict[str, Any]]:
        """The cells that were run because they are ranked first, the strongest first; see `to_rows`."""
        return _strongest(self.to_rows()[: self.verify], None)

    def top(self, k: int = HELD) -> list[dict[str, Any]]:
        """The k strongest cells of all that were run, verified or found by the audit.

        Args:
            k: how many.

        Returns:
            Dicts as in `to_rows`, the strongest first.

        Raises:
            InputError: when k is not a whole number of 0 or more.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
            >>> found = model.screen(*prompts, layers=[9], component="head", metric="logit_diff", progress=False)
            >>> [abs(row["effect"]) >= abs(found.top(2)[1]["effect"]) for row in found.top(2)]
            [True, True]
        """
        return _strongest(self.to_rows(), whole_number("k", k, 0))

    # ---- to look at

    @property
    def sentence(self) -> str:
        """What was done and found, as a paper can quote it."""
        return " ".join(sentences(self))

    def __repr__(self) -> str:
        return text(self)

    def plot(self, path: str | os.PathLike | None = None, **look: Unpack[Look]) -> Figure:
        """Estimate against effect for every cell that was run, with the threshold.

        Args:
            path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
            look: `ax` or `fig` to draw on, and `caption`, as in every plot.

        Returns:
            A matplotlib Figure.

        Raises:
            InputError: for a path that cannot be written, before drawing.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
            >>> found = model.screen(*prompts, layers=[9], component="head", metric="logit_diff", progress=False)
            >>> found.plot().axes[0].get_ylabel()
            'effect on the logit difference, exact'
        """
        return screen_figure(self, path, **look)


def _strongest(rows: list[dict[str, Any]], k: int | None) -> list[dict[str, Any]]:
    """The rows with the largest effects, those ranked first before others of the same."""
    return sorted(rows, key=lambda row: (-abs(row["effect"]), row["rank"]))[:k]
