"""Long prompts: spans of tokens, coarse to fine, and what a map of every token takes, said before it is run.

    rows = coarse(pairs, spans(32))                              # a row for each span
    rows, outcomes = refined(rows, shape, outcomes, again)       # and for each token of those that matter

A span is patched as one cell, its tokens together. The second sweep has a cell for each token of the spans whose effect
is large. Every number is that of a patch which was made.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import Spans as Spans
from ..arguments import label_of, runs_of
from ..errors import LongRunWarning
from .grid import Grid, InputError, Places
from .sweeps import Outcome, Plan, joined

LEAST = 1e-3  # of the gap of both runs: what moves the metric by less is not refined
LONG = 60.0  # seconds from which on a map of every token is announced
MANY = 64  # tokens from which on there is something to offer instead
NAMED = 6  # spans that a note names
PACKAGE = str(Path(__file__).parent.parent)
_announced: dict[
    tuple[str, int], float
] = {}  # by the line that called, the seconds that were announced there


# ---- spans


@dataclass(frozen=True)
class Rows:
    """Spans, and which of them were refined.

    groups: the positions of each span. first: the first position that can differ. chosen: which spans have rows for
    their tokens behind them.
    """

    asked: Spans
    groups: list[list[int]]
    first: int
    chosen: tuple[int, ...] = ()

    @property
    def singles(self) -> list[list[int]]:
        """Each token of the spans that are refined."""
        return [[p] for i in self.chosen for p in self.groups[i]]

    @property
    def order(self) -> list[int]:
        """By row, which of all spans and then of all single tokens it is: a span, then its tokens, the next span."""
        found, single = [], len(self.groups)
        for i, group in enumerate(self.groups):
            tokens = len(group) if i in self.chosen else 0
            found += [i, *range(single, single + tokens)]
            single += tokens
        return found

    @property
    def rows(self) -> list[list[int]]:
        every = [*self.groups, *self.singles]
        return [every[i] for i in self.order]

    @property
    def labels(self) -> list[int | str]:
        return [label_of(row) for row in self.rows]

    @property
    def settings(self) -> dict[str, Any]:
        """What a result keeps of them."""
        names = [str(label_of(self.groups[i])) for i in self.chosen]
        return {"spans": {"width": self.asked.width, "refine": self.asked.refine, "refined": names}}

    @property
    def note(self) -> str:
        wide = [group for group in self.groups if len(group) > 1 and group[-1] >= self.first]
        begins = f", counted from position {self.first}, the first that can differ" if self.first else ""
        said = (
            f"a row of several tokens is one patch of all of them, spans of {self.asked.width}{begins}: what they do "
            "together, which is not the sum of what each does alone"
        )
        if not wide:
            return said
        share = self.asked.refine
        if share is None:
            return f"{said}; no span was refined (refine=None), so what single tokens do is not known"
        names = [str(label_of(self.groups[i])) for i in self.chosen]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        which = f" ({', '.join(names[:NAMED])}{more})" if names else ""
        left = len(wide) - len(names)
        unseen = "" if not left else (
            f"; in the other {left} no single token was patched, and effects that cancel each other there are not seen"
        )  # fmt: skip
        return (
            f"{said}; {len(names)} of {len(wide)} spans{which} were refined to single tokens: those with "
            f"{100 * share:g} % of the largest effect or more, and {100 * LEAST:g} % of the gap{unseen}"
        )


def spans_of(asked: Spans, paired: Sequence[tuple[int, int]], first: int, length: int) -> Rows:
    """The spans of a prompt; InputError for spans that are longer than it.

    paired: clean and corrupted positions; first: the first clean one that can differ; length: of the prompt.
    """
    if asked.width > length:
        raise InputError(
            f"positions={asked}: the prompt has {length} tokens; give a smaller width, or positions=None, which "
            "patches the whole sequence together"
        )
    return Rows(asked, runs_of(paired, first, asked.width), first)


def refuse_until(rows: Rows | None, until: bool) -> bool:
    """Whether noise is drawn until cells are known; InputError with spans: which are refined takes all samples."""
    if rows is not None and until:
        raise InputError(
            f'positions={rows.asked} goes with a number of samples, not with samples="until": which spans are refined '
            "is decided by effects of the same samples"
        )
    return until


def refined(
    rows: Rows,
    shape: tuple[int, int, int, int],
    outcomes: list[Outcome],
    again: Callable[[list[list[int]]], list[Outcome]],
) -> tuple[Rows, list[Outcome]]:
    """The rows with those of single tokens, and each pair's outcome of all of them.

    shape: of the cells: components, layers, spans, heads. outcomes: of the spans, one for each pair; again: sweeps the
    pairs at other groups of positions.
    """
    rows = choose(rows, outcomes, shape)
    if not rows.chosen:
        return rows, outcomes
    finer = again(rows.singles)
    return rows, [_woven(rows, shape, *both) for both in zip(outcomes, finer, strict=True)]


def choose(rows: Rows, outcomes: Sequence[Outcome], shape: tuple[int, int, int, int]) -> Rows:
    """The rows with the spans that are refined, by the outcomes of the spans, one for each pair.

    By each component and metric those are chosen whose effect, in any layer and head, is `refine` of the largest or
    more; of a set its mean size over the pairs.
    """
    if rows.asked.refine is None:
        return rows
    strengths, gaps = [], []
    for outcome in outcomes:
        base, source = outcome.base.mean(-1), outcome.source.mean(-1)
        effects = np.abs(outcome.values.mean(-1) - base[:, None]).reshape(len(base), *shape)
        strengths.append(effects)
        gaps.append(np.abs(source - base)[:, None, None])
    strength = np.mean(strengths, 0).max(axis=(2, 4))  # metrics, components, spans
    least = np.maximum(rows.asked.refine * strength.max(-1, keepdims=True), LEAST * np.mean(gaps, 0))
    large = ((strength >= least) & (strength > 0)).any(axis=(0, 1))
    return replace(
        rows, chosen=tuple(i for i, group in enumerate(rows.groups) if large[i] and len(group) > 1)
    )


def _woven(rows: Rows, shape: tuple[int, int, int, int], spans: Outcome, tokens: Outcome) -> Outcome:
    """The outcomes of spans and of single tokens as one, in the order of the rows; shape: of the cells of spans."""
    components, layers, _, units = shape
    parts = []
    for values in (spans.values, tokens.values):
        metrics, _, samples = values.shape
        parts.append(values.reshape(metrics, components, layers, -1, units, samples))
    together = np.concatenate(parts, 3)[:, :, :, rows.order]
    flat = together.reshape(len(together), -1, together.shape[-1])
    return replace(spans, values=flat, plan=joined([spans.plan, tokens.plan]))


# ---- the pairs and grids of activation patching


def rows_of(grids: Sequence[Grid], groups: list[list[int]], rows: Rows | None = None) -> list[Grid]:
    """The grids at some groups of positions. rows: which these are, for what a result says of them."""
    labels = [label_of(group) for group in groups]
    notes = () if rows is None else (rows.note,)
    places = Places(groups, "position", labels, [[i] for i in range(len(groups))], notes=notes)
    return [replace(grid, places=places) for grid in grids]


def coarse(pairs: Sequence[Any], asked: Spans, source_model: Any = None) -> Rows:
    """The spans of some pairs. source_model: that of the source run, where it is another: any token can differ."""
    first = pairs[0]
    lengths = {(len(pair.clean.ids), len(pair.corrupted.ids)) for pair in pairs}
    if len(lengths) > 1 or any(pair.alignment.pairs != first.alignment.pairs for pair in pairs):
        raise InputError(
            f"positions={asked} needs pairs whose prompts have one length and the same paired positions: use "
            'positions="regions", or a call for each length'
        )
    paired = first.alignment.pairs
    begins = min(pair.alignment.first_difference for pair in pairs)
    begins = 0 if source_model is not None or begins >= len(paired) else begins
    return spans_of(asked, paired, paired[begins][0], len(first.clean.ids))


def refined_pairs(
    rows: Rows, grids: list[Grid], found: list[Any], sweep: Callable[[list[Grid]], list[Any]]
) -> tuple[Rows, list[Grid], list[tuple[Any, Outcome]]]:
    """`refined` of pairs: the rows, their grids, and each pair's measure and outcome; sweep: gives these for grids."""
    grid = grids[0]
    shape = (len(grid.components), len(grid.layers), len(rows.groups), len(grid.units))

    def again(groups: list[list[int]]) -> list[Outcome]:
        return [outcome for _, outcome in sweep(rows_of(grids, groups))]

    rows, outcomes = refined(rows, shape, [outcome for _, outcome in found], again)
    measures = [measured for measured, _ in found]
    return rows, rows_of(grids, rows.rows, rows), list(zip(measures, outcomes, strict=True))


# ---- what a map of every token takes


def planned(plan: Plan, positions: int, rows: Rows | None = None, screened: bool = True) -> Plan:
    """The plan of a map of so many tokens, with a `LongRunWarning` when it takes long; of spans, with what may follow.

    It is said once for each line that asks, not for each turn of its loop, unless what it takes has doubled. screened:
    whether `screen` could be run instead.
    """
    if rows is not None:
        each = rows.asked.width * plan.cells // len(rows.groups)
        more = f"{len(rows.groups)} spans alone: each that is refined takes up to {each} cells more"
        return (
            plan
            if rows.asked.refine is None
            else replace(plan, why="; ".join(filter(None, (plan.why, more))))
        )
    if plan.seconds < LONG or positions < MANY:
        return plan
    place, level = _caller()
    if plan.seconds <= 2 * _announced.get(place, 0.0):
        return plan
    _announced[place] = plan.seconds
    time = f"{plan.seconds / 60:.2g} minutes" if plan.seconds < 5400 else f"{plan.seconds / 3600:.2g} hours"
    screen = "; model.screen(...) ranks all by gradient and runs the best" if screened else ""
    takes = f"{plan.cells:,} cells in {plan.passes} passes: about {time}, {plan.bytes / 1e6:.0f} MB"
    warnings.warn(
        f"{positions:,} positions are {takes} beside the weights. Fewer cells: positions=spans(32) patches 32 tokens "
        f"at a time, and one by one where that matters{screen}",
        LongRunWarning,
        stacklevel=level,
    )
    return plan


def _caller() -> tuple[tuple[str, int], int]:
    """The line outside of this package that called, and how many frames it is above `planned`."""
    frame: Any = sys._getframe(1)
    level = 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame, level = frame.f_back, level + 1
    return (frame.f_code.co_filename, frame.f_lineno), level
