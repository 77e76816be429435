"""The pairs of an experiment on edges: each read, split into contributions and reads, checked and measured.

for pair in EdgePairs(model, made, metric, max_memory).each("denoise"):
    pair.sweep, pair.measured        # `PathSweep` of the pair, checked; its metric, bound
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine.circuit_pass import CircuitPass
from ..engine.edge_gradients import edge_estimates
from ..errors import AlignmentError, InputError
from .grid import positions_of
from .pair_sets import PairSet
from .path_runs import ALL, Graph, PathCell, PathRuns, Receiver, Sender, choose, values_of
from .path_runs import progress_bar as progress_bar
from .set_answers import SetAnswers, answers_of_set
from .whole_answers import Measured, asked_of_pairs, settle_whole
from .whole_slopes import slope_of_context


@dataclass(frozen=True)
class EdgePair:
    """One pair: its sweeps, its one metric, and where in the base run contributions are changed."""

    runs: PathRuns
    measured: Measured
    at: tuple[int, ...]

    @property
    def sweep(self) -> Any:
        """The sweep of its first context, or the only one."""
        return self.runs.sweeps[0]

    @property
    def name(self) -> str:
        """What the metric is called."""
        return self.measured.metrics[0].name

    def values(self, *logits: np.ndarray) -> np.ndarray:
        """The metric `[circuits, rows]`, float64, of the logits `[circuits, rows, ...]` of each context."""
        rows = [x.reshape(-1, *x.shape[2:]) for x in logits]
        found = values_of(self.measured, self.runs.whole.stacked(np.concatenate(rows)))
        return found[0].reshape(logits[0].shape[:2])

    def of_circuits(self, kept: np.ndarray) -> np.ndarray:
        """The metric `[circuits]` of circuits, bool `[circuits, senders, receivers]`; the source run is clean."""
        passes = [CircuitPass(s.source, s.base, s.allowed // 4) for s in self.runs.sweeps]
        return self.values(*(one.logits(kept) for one in passes)).mean(-1)

    def changes(self, graph: Graph, progress: bool | None = False) -> np.ndarray:
        """The change of the metric `[senders, receivers]` by every edge alone, `patched - base`."""
        scores, places = np.zeros(graph.upstream.shape), np.argwhere(graph.upstream)
        senders = [Sender(node.name, (node,)) for node in graph.senders]
        receivers = [Receiver(read.name, (read,)) for read in graph.receivers]
        cells = [PathCell(senders[s], receivers[r], self.at) for s, r in places.tolist()]
        outcome = self.runs.run(cells, self.measured, progress)
        scores[places[:, 0], places[:, 1]] = (outcome.values[0] - outcome.base[0]).mean(-1)
        return scores

    def estimates(self, steps: int) -> np.ndarray:
        """Estimates of the same from gradients: of all contexts they add up, what others score being held."""
        if steps and len(self.runs.sweeps) > 1 and len(self.measured.target.all) > 1:
            raise InputError(
                "several right answers that differ before their last tokens are runs of their own, whose gradients "
                'between two runs do not add up to those of their sum: use method="eap" or "exact", or one answer'
            )
        base, total = self.runs.logits()[0], 0.0
        for i, sweep in enumerate(self.runs.sweeps):
            gradient = slope_of_context(self.measured, 0, i, base)
            if gradient is None:
                raise InputError(f'the metric {self.name} has no gradient: use another, or method="exact"')
            total = total + edge_estimates(sweep.edited, gradient, self.at, steps, sweep.allowed // 4).mean(0)
        return np.asarray(total)


def graph_of(model: Any) -> Graph:
    """The senders and receivers of a model; UnsupportedError where they cannot be told apart."""
    return Graph(model.resolver)


class EdgePairs:
    """Pairs whose edges are patched, and what is measured of them.

    Args:
        model: whose edges. made: the pairs. metric: one metric.
        positions: of the clean prompt, where contributions are patched; None for all.
        max_memory: bytes beside the weights; None: a quarter of what is free.
    """

    def __init__(
        self, model: Any, made: PairSet, metric: Any, positions: Any = None, max_memory: int | None = None
    ):
        one_metric(metric)
        self.model, self.made, self.metric = model, made, metric
        self.max_memory, self.engine = max_memory, choose(model.resolver)
        if isinstance(positions, str) and positions in ("each", "regions"):
            raise InputError(
                f"positions={positions!r} has no matrix of edges: give the positions that are patched together, or use "
                "path_patching for single positions"
            )
        self.places = [
            None if positions is None else set(positions_of(positions, p.clean_prompt, p.regions))
            for p in made.pairs
        ]
        wholes = asked_of_pairs(model, made)
        self.asked = SetAnswers(made.targets, made.foils, metric, [], wholes)
        if not made.alone:
            self.asked = answers_of_set(model, made, metric, True, wholes)

    @property
    def notes(self) -> list[str]:
        """What is to be said of the answers of the set."""
        whole = any(one is not None and one.contexts != ((),) for one in self.asked.asked)
        return [*self.asked.notes, *([ALL] if whole and all(p is None for p in self.places) else [])]

    def each(self, graph: Any, direction: str) -> Iterator[EdgePair]:
        """The pairs, one after the other: the base run is patched, or corrupted, with the source run."""
        for i, pair in enumerate(self.made.pairs):
            role = pair.roles(direction)
            whole, places = self.asked.asked[i], self.places[i]
            runs = PathRuns(self.model, graph, role, whole, self.engine, self.max_memory)
            answers = self.asked.metric, self.asked.targets[i], self.asked.foils[i]
            logits = role.clean_first(*runs.logits())
            measured = settle_whole(self.model, pair, *answers, logits, self.made.alone, whole)
            at = tuple(x for p, x in role.at.items() if places is None or p in places)
            yield EdgePair(runs, measured, at if places is not None else (*at, *runs.answer))

    def check_lengths(self) -> None:
        """AlignmentError for a pair whose prompts differ in length: all positions of a circuit are patched."""
        for pair, name in zip(self.made.pairs, self.made.ids, strict=True):
            if pair.clean.length != pair.corrupted.length:
                raise AlignmentError(
                    f"pair {name} has prompts of {pair.clean.length} and {pair.corrupted.length} tokens: in a circuit "
                    "all positions of both runs answer to each other, so that they must be of one length"
                )


def one_metric(metric: Any) -> None:
    """InputError for several metrics, or one that sees every position."""
    if isinstance(metric, list | tuple):
        raise InputError(f"edges are scored by one metric, not by {list(metric)!r}: make a call for each")
    if getattr(metric, "every_position", False):
        raise InputError(
            "edges are scored by the last position's logits: a metric of every position has no score"
        )
