"""Circuits run on a model: some edges carry the clean run, all others the corrupted one.

circuit = model.edges(pairs).circuit(50)
circuit.faithfulness(), circuit.curve(), circuit.minimality()
model.circuit(Circuit.load("ioi.npz")).faithfulness(pairs)
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import InputError
from ..results.circuit_result import Circuit
from .edge_runs import EdgePair, EdgePairs, graph_of, progress_bar
from .pair_sets import PairSet, read_pairs

__all__ = ["Circuit", "CircuitRuns", "EdgePair", "EdgePairs", "circuit", "graph_of", "progress_bar"]


class CircuitRuns:
    """Runs circuits of a model.

    Args:
        model: whose circuits. metric: what is measured.
        made: the pairs that circuits are run on where no others are named; None: others must be.
        max_memory: bytes beside the weights; None: a quarter of what is free.
    """

    def __init__(self, model: Any, metric: Any, made: PairSet | None = None, max_memory: int | None = None):
        self.model, self.metric, self.made, self.max_memory = model, metric, made, max_memory
        self.graph = graph_of(model)

    def __call__(
        self, kept: np.ndarray, given: Any = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
        """The metric `[circuits, pairs]` of some circuits, `[pairs]` of the clean and of the corrupted run, and ids.

        kept: bool `[circuits, senders, receivers]`. given: pairs; None: those that this was made with.
        """
        made = self.made if given is None else self._read(given)
        if made is None:
            raise InputError(
                "a circuit that was read from a file has no pairs: name those that it is to be run on"
            )
        pairs = EdgePairs(self.model, made, self.metric, None, self.max_memory)
        pairs.check_lengths()
        columns, ends = [], []
        for pair in pairs.each(self.graph, "denoise"):
            columns.append(pair.of_circuits(kept))
            ends.append((pair.measured.clean[pair.name], pair.measured.corrupted[pair.name]))
        clean, corrupted = np.array(ends).T
        return np.stack(columns, axis=1), clean, corrupted, made.ids

    def _read(self, given: Any) -> PairSet:
        """Pairs as `model.edges` takes them: one or many, or a tuple of clean and corrupted prompts."""
        if isinstance(given, PairSet):
            return given
        two = isinstance(given, tuple) and len(given) == 2 and all(isinstance(x, str | list) for x in given)
        return read_pairs(self.model, *given) if two else read_pairs(self.model, given)


def circuit(model: Any, given: Any, metric: Any = None, max_memory: int | None = None) -> Any:
    """Bind a circuit, or scores of edges, to a model that runs it.

    Args:
        model: what runs it; not given where this is called as its method.
        given: a `Circuit` or `Edges`, or the path of a file that `circuit.save` wrote.
        metric: what is measured; None: the metric of the scores, by its name.
        max_memory: bytes beside the weights; None: a quarter of what is free.

    Returns:
        The same, bound to this model.

    Raises:
        InputError: when the model has other senders or reads.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> found = model.edges(*prompts, method="eap", progress=False).circuit(200)
        >>> round(model.circuit(found).faithfulness(prompts), 6) == round(found.faithfulness(), 6)
        True
    """
    if isinstance(given, str | os.PathLike):
        given = Circuit.load(given)
    if not all(hasattr(given, name) for name in ("senders", "receivers", "upstream", "_runs")):
        raise InputError(
            f"a Circuit, Edges or the path of a saved circuit is bound to a model, not {given!r:.80}"
        )
    runs = CircuitRuns(model, given.metric if metric is None else metric, None, max_memory)
    graph = runs.graph
    names = [node.name for node in graph.senders], [read.name for read in graph.receivers]
    if names != (given.senders, given.receivers) or not np.array_equal(graph.upstream, given.upstream):
        raise InputError(
            f"the circuit is of a model with {len(given.senders)} senders and {len(given.receivers)} reads, and this "
            f"one has {len(names[0])} and {len(names[1])}, or others"
        )
    bound = replace(given)
    bound._runs = runs
    return bound
