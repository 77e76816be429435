"""The scores of all edges: what each changes by itself, exactly or by gradients; and the circuits that they make.

edges.scores                     # [senders, receivers], 0 where there is no edge; edges.upstream says where there is
edges["a3.h5", "a7.h3.q"]        # one of them
edges.circuit(50).faithfulness()
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np
from matplotlib.figure import Figure

from ..plotting.edge_maps import Look, edge_map
from .circuit_edges import edge_of, ranked
from .circuit_result import METHODS, Circuit
from .intervals import mean_of
from .printing import bars, document, listed, over, page
from .saved import Record

DIRECTIONS = {
    "denoise": "the clean run's value into the corrupted run",
    "noise": "the corrupted run's value into the clean run",
}


@dataclass(repr=False, eq=False)
class Edges(Record):
    """The change of the metric by each edge alone: `patched - base`, of every sender and every read downstream of it.

    An edge carries what one sender writes (the embedding, a head, an MLP) to one read (q, k or v of a head, an MLP, the
    logits). With "denoise" the corrupted run is patched, and an edge carries its clean value; with "noise" the clean
    run is patched, and an edge carries its corrupted value (the sign of the EAP authors' scores).

    Args:
        per_pair: float64 `[pairs, senders, receivers]`, 0 where there is no edge.
        upstream: bool `[senders, receivers]`: where there is one.
        clean, corrupted: float64 `[pairs]`: the metric in the plain runs.
        senders: `embed`, `a3.h5`, `m3`, ..., in the order of the stream.
        receivers: `a7.h3.q`, `a7.h3.k`, `a7.h3.v`, `m7`, `logits`; keys and values by key-value head.
        metric: its name.
        method: "exact", "eap" or "eap-ig"; all but the first are approximate.
        direction: "denoise" or "noise".
        ids: the pairs' names; alone: one pair was given by itself.
        clean_texts, corrupted_texts, targets, foils: of each pair.
        model: its name.
        steps: interpolated inputs of "eap-ig".
        notes: what must be known to read the numbers.
        seconds: what the scores took.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> edges = model.edges(*prompts, method="eap", progress=False)
        >>> edges.scores.shape == (len(edges.senders), len(edges.receivers)), edges.approximate
        (True, True)
        >>> bool(edges.scores[~edges.upstream].any())
        False
        >>> edges.top(1)[0]["score"] == max(edges.to_rows(), key=lambda row: abs(row["score"]))["score"]
        True
        >>> edges.curve(sizes=(0.2, 1), random=0).cpr > 0, edges.shapes()["clean"]
        (True, (1,))
    """

    per_pair: np.ndarray
    upstream: np.ndarray
    clean: np.ndarray
    corrupted: np.ndarray
    senders: list[str]
    receivers: list[str]
    metric: str
    method: str
    direction: str
    ids: list[str]
    alone: bool
    clean_texts: list[str]
    corrupted_texts: list[str]
    targets: list[str]
    foils: list[str]
    model: str
    steps: int = 0
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._runs: Any = None  # what runs circuits, where a model is there
        self.upstream = np.asarray(self.upstream) > 0
        self._mean = mean_of(self.per_pair)

    # ---- what it holds

    @property
    def scores(self) -> np.ndarray:
        """`[senders, receivers]`: mean over the pairs; 0 where there is no edge."""
        return self._mean.value

    @property
    def interval(self) -> np.ndarray:
        """The half-width of each score's 95 % interval over the pairs; NaN for one pair."""
        return self._mean.half

    @property
    def approximate(self) -> bool:
        """Whether the scores are estimates by gradients, not measured."""
        return self.method != "exact"

    @property
    def n(self) -> int:
        """How many edges there are."""
        return int(self.upstream.sum())

    @property
    def gap(self) -> float:
        """The metric's mean in the clean runs less that in the corrupted runs."""
        return float(self.clean.mean() - self.corrupted.mean())

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, edge: Any) -> float:
        """The score of one edge, by its names.

        Raises:
            InputError: when there is no such sender, receiver or edge.
        """
        s, r = edge_of(edge, self.senders, self.receivers, self.upstream)
        return float(self.scores[s, r])

    def to_rows(self) -> list[dict[str, Any]]:
        """The edges as a table.

        Returns:
            One dict per edge, in the order of the stream: sender, receiver, score, share (percent of clean less
            corrupted; None where that is 0), and for several pairs low and high, the ends of the score's 95 % interval.
        """
        return self._rows(np.argwhere(self.upstream))

    def top(self, k: int = 10) -> list[dict[str, Any]]:
        """The k edges with the largest scores, by size.

        Args:
            k: how many.

        Returns:
            Dicts as in `to_rows`.

        Raises:
            InputError: when k is not a whole number of 0 or more.
        """
        return self._rows(ranked(np.abs(self.scores), self.upstream, k))

    def _rows(self, places: np.ndarray) -> list[dict[str, Any]]:
        rows = []
        for s, r in places.tolist():
            score, half = float(self.scores[s, r]), float(self.interval[s, r])
            row: dict[str, Any] = {"sender": self.senders[s], "receiver": self.receivers[r], "score": score}
            row["share"] = 100 * score / self.gap if self.gap else None
            if len(self.ids) > 1:
                row["low"], row["high"] = score - half, score + half
            rows.append(row)
        return rows

    # ---- circuits

    def circuit(self, n: Any, by: str = "top", absolute: bool = True, prune: bool = True) -> Circuit:
        """The circuit of the edges that score most.

        Args:
            n: how many edges; with by="threshold" the least size of a score.
            by: "top", the n largest; "greedy", from the logits backwards, each the largest that goes into what is in
                the circuit already (Hanna et al. 2024); "threshold", all of a size of n or more.
            absolute: choose by size; False: by how much an edge helps, so that edges that work against the answer stay
                out.
            prune: leave out edges that lead nowhere, which change nothing; `circuit.asked` is how many were chosen.

        Returns:
            A `Circuit`.

        Raises:
            InputError: for a number of edges that there is not, or an unknown `by`.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
            >>> circuit = model.edges(*prompts, method="eap", progress=False).circuit(100, by="greedy")
            >>> circuit.asked, circuit.n <= 100
            (100, True)
        """
        return Circuit.of(self, n, by, absolute, prune)

    def curve(self, pairs: Any = None, **options: Any) -> Any:
        """The faithfulness of circuits of several sizes, as `Circuit.curve` has it.

        Args:
            pairs: where it is measured; None: on the pairs of the scores.
            options: `sizes`, `by`, `absolute`, `random`, `seed` and more, as `Circuit.curve` takes them.

        Returns:
            A `Curve`: `.faithfulness`, `.cpr`, `.cmd`.
        """
        return self.circuit(0, options.get("by", "top"), options.get("absolute", True)).curve(
            pairs, **options
        )

    # ---- to look at

    def __repr__(self) -> str:
        top = self.top(10)
        names = [f"{row['sender']} -> {row['receiver']}" for row in top]
        halves = None
        if len(self.ids) > 1:
            halves = {"score": np.array([(row["high"] - row["low"]) / 2 for row in top])}
        body = (
            bars("edge", names, {"score": np.array([row["score"] for row in top])}, halves=halves)
            if top
            else []
        )
        return page(f"{type(self).__name__}: {self.title}", self._lines(), self.notes, body)

    @property
    def title(self) -> str:
        """What these numbers are, in a line."""
        how = f", {self.steps} steps" if self.steps else ""
        kind = "approximate " if self.approximate else ""
        return f"{kind}scores of {self.n} edges ({self.method}{how}){over([] if self.alone else self.ids)}"

    def _lines(self) -> list[str]:
        what = f"score: change of {self.metric} when an edge alone carries {DIRECTIONS[self.direction]}"
        ends = f"{self.metric}: clean {self.clean.mean():z.4g}, corrupted {self.corrupted.mean():z.4g}"
        return [what, ends, *([METHODS[self.method]] if self.approximate else [])]

    def _repr_html_(self) -> str:
        return document(self.title, self._lines(), self.notes, [listed(self.top(20), self.n)])

    def plot(self, path: str | os.PathLike | None = None, **look: Unpack[Look]) -> Figure:
        """Draw the scores as a map, senders down and receivers across, in the order of the stream.

        Args:
            path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
            look: `ax` or `fig` to draw on, and `caption`, as in every plot.

        Returns:
            A matplotlib Figure.

        Raises:
            InputError: when the path cannot be written.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
            >>> figure = model.edges(*prompts, method="eap", progress=False).plot()
            >>> figure.axes[0].get_xlabel()
            'receiver'
        """
        return edge_map(self, path, **look)

    # ---- to keep

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each array, as the labels have it."""
        edges, pairs = (len(self.senders), len(self.receivers)), len(self.ids)
        return {"per_pair": (pairs, *edges), "upstream": edges, "clean": (pairs,), "corrupted": (pairs,)}

    def _arrays(self) -> dict[str, np.ndarray]:
        return {name: x.astype(np.float64) for name, x in super()._arrays().items()}
