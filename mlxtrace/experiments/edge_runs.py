"""The pairs of an experiment on edges: each read, split into contributions and reads, checked and measured.

for pair in EdgePairs(model, made, metric, max_memory).each("denoise"):
    pair.sweep, pair.measured        # `PathSweep` of the pair, checked; its metric, bound
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine.choice import choose
from ..engine.path_sweep import Graph, PathCell, PathSweep, Receiver, Sender
from ..engine.path_sweep import progress_bar as progress_bar
from ..errors import AlignmentError, InputError
from .answers import Measured, settle
from .grid import positions_of
from .pair_sets import PairSet
from .set_answers import SetAnswers, answers_of_set


@dataclass(frozen=True)
class EdgePair:
    """One pair: its sweep, its one metric, and where in the base run contributions are changed."""

    sweep: PathSweep
    measured: Measured
    at: tuple[int, ...]

    @property
    def name(self) -> str:
        """What the metric is called."""
        return self.measured.metrics[0].name

    def values(self, logits: np.ndarray) -> np.ndarray:
        """The metric `[...]` of logits `[..., V]`, float64."""
        return self.measured(logits.reshape(-1, logits.shape[-1]))[0].reshape(logits.shape[:-1])

    def changes(self, graph: Graph, progress: bool | None = False) -> np.ndarray:
        """The change of the metric `[senders, receivers]` by every edge alone, `patched - base`."""
        scores, places = np.zeros(graph.upstream.shape), np.argwhere(graph.upstream)
        senders = [Sender(node.name, (node,)) for node in graph.senders]
        receivers = [Receiver(read.name, (read,)) for read in graph.receivers]
        cells = [PathCell(senders[s], receivers[r], self.at) for s, r in places.tolist()]
        outcome = self.sweep.run(cells, self.measured, progress)
        scores[places[:, 0], places[:, 1]] = (outcome.values[0] - outcome.base[0]).mean(-1)
        return scores


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
        self.asked = SetAnswers(made.targets, made.foils, metric, [])
        if not made.alone:
            self.asked = answers_of_set(model, made, metric)

    def each(self, graph: Any, direction: str) -> Iterator[EdgePair]:
        """The pairs, one after the other: the base run is patched, or corrupted, with the source run."""
        for i, pair in enumerate(self.made.pairs):
            role = pair.roles(direction)
            at, source_at = (list(found.values()) for found in (role.at, role.source_at))
            sweep = PathSweep(
                self.model.resolver,
                graph,
                role.base,
                role.source,
                at,
                source_at,
                self.engine,
                self.max_memory,
            )
            clean_first = role.clean_first(sweep.base.logits, sweep.source.logits)
            answers = self.asked.metric, self.asked.targets[i], self.asked.foils[i]
            measured = settle(self.model, pair, *answers, clean_first, self.made.alone)
            places = self.places[i]
            yield EdgePair(
                sweep, measured, tuple(x for p, x in role.at.items() if places is None or p in places)
            )

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
