"""A set of edges of a model: how it is chosen by scores, what is in it, and how far it is another set as well."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..arguments import whole_number
from ..errors import InputError
from .circuit_edges import chosen, edge_of, feeds, pruned, random_edges, ranked
from .saved import Record


@dataclass(repr=False, eq=False)
class EdgeSet(Record):
    """Some of a model's edges, with the scores by which they were chosen; what `Circuit` is made of.

    Args:
        kept: bool `[senders, receivers]`: the edges of the circuit.
        upstream: bool `[senders, receivers]`: all edges that there are.
        scores: float64 `[senders, receivers]`, as `Edges.scores`.
        senders, receivers: their names.
        asked: how many edges were chosen, before those that lead nowhere were left out.
        by, absolute: how they were chosen.
        metric, method, direction, steps, model: of the scores.
        toward: 1 where a larger score helps the clean answer, -1 where a smaller one does.
        notes: what must be known to read it.
    """

    kept: np.ndarray
    upstream: np.ndarray
    scores: np.ndarray
    senders: list[str]
    receivers: list[str]
    asked: int
    by: str
    absolute: bool
    metric: str
    method: str
    direction: str
    model: str
    steps: int = 0
    toward: int = 1
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._runs: Any = None  # what runs circuits, where a model is there
        self.kept, self.upstream = np.asarray(self.kept) > 0, np.asarray(self.upstream) > 0

    @classmethod
    def of(cls, edges: Any, n: Any, by: str = "top", absolute: bool = True, prune: bool = True) -> Any:
        """The circuit of the edges that score most, as `Edges.circuit` makes it."""
        same = (
            "senders",
            "receivers",
            "scores",
            "upstream",
            "metric",
            "method",
            "direction",
            "model",
            "steps",
        )
        toward = (1 if edges.direction == "denoise" else -1) * (1 if edges.gap >= 0 else -1)
        whole = cls(
            **{name: getattr(edges, name) for name in same},
            kept=edges.upstream,
            asked=edges.n,
            by=by,
            absolute=absolute,
            toward=toward,
        )
        whole._runs = edges._runs
        return whole.chosen(n, by, absolute, prune)

    def chosen(self, n: Any, by: str, absolute: bool, prune: bool = True) -> Any:
        """Another circuit by the same scores."""
        sizes = np.abs(self.scores) if absolute else self.toward * self.scores
        kept = chosen(sizes, self.upstream, self.senders, self.receivers, n, by)
        left = pruned(kept, self.senders, self.receivers) if prune else kept
        asked, lost = int(kept.sum()), int(kept.sum() - left.sum())
        found = self._with(left, asked=asked, by=by, absolute=absolute)
        if lost:
            found.notes = [
                f"{lost} of the {asked} edges chosen lead nowhere, and are left out: they change nothing"
            ]
        return found

    def _with(self, kept: np.ndarray, **changes: Any) -> Any:
        """The circuit with other edges, run by the same model."""
        found = replace(self, **{"kept": kept, "asked": int(kept.sum()), "notes": [], **changes})
        found._runs = self._runs
        return found

    # ---- what is in it

    @property
    def n(self) -> int:
        """How many edges it has."""
        return int(self.kept.sum())

    @property
    def share(self) -> float:
        """Its edges in percent of all."""
        return 100 * self.n / max(int(self.upstream.sum()), 1)

    @property
    def approximate(self) -> bool:
        """Whether the scores by which it was chosen are estimates by gradients."""
        return self.method != "exact"

    @property
    def edges(self) -> list[tuple[str, str]]:
        """Its edges as pairs of names, strongest first."""
        return [(row["sender"], row["receiver"]) for row in self.to_rows()]

    @property
    def nodes(self) -> list[str]:
        """The senders that it has, in the order of the stream, and the logits if something reaches them."""
        named = {name for sender, node, _, _ in self.links() for name in (sender, node)}
        return [name for name in (*self.senders, "logits") if name in named]

    def __len__(self) -> int:
        return self.n

    def __bool__(self) -> bool:
        return True

    def __contains__(self, edge: Any) -> bool:
        return bool(self.kept[edge_of(edge, self.senders, self.receivers, self.upstream)])

    def to_rows(self) -> list[dict[str, Any]]:
        """The circuit's edges, strongest first: sender, receiver, score."""
        return [
            {"sender": self.senders[s], "receiver": self.receivers[r], "score": float(self.scores[s, r])}
            for s, r in ranked(np.abs(self.scores), self.kept).tolist()
        ]

    def links(self, most: int | None = None) -> list[tuple[str, str, str, float]]:
        """The strongest edges (None: all) as they are drawn: sender, node, read, and how much the edge helps.

        The read is q, k, v or "". Keys and values go to each head of their group that something reads.
        """
        into, read = feeds(self.senders, self.receivers), self.kept.any(1)
        found = []
        for s, r in ranked(np.abs(self.scores), self.kept, most).tolist():
            name, effect = self.receivers[r], self.toward * float(self.scores[s, r])
            fed = np.flatnonzero(into[r] & read) if (into[r] & read).any() else np.flatnonzero(into[r])[:1]
            part = name[-1] if name[-2:] in (".q", ".k", ".v") else ""
            ends = [self.senders[i] for i in fed] or [name]
            found += [(self.senders[s], end, part, effect) for end in ends]
        return found

    def without(self, *edges: Any) -> Any:
        """The circuit less some of its edges, each two names or a text `a3.h5->a7.h3.q`.

        Raises:
            InputError: for an edge that it has not.
        """
        kept = self.kept.copy()
        for edge in edges:
            if edge not in self:
                raise InputError(f"the circuit has no edge {edge!r}: circuit.edges lists what it has")
            kept[edge_of(edge, self.senders, self.receivers, self.upstream)] = False
        return self._with(kept)

    @property
    def complement(self) -> Any:
        """The circuit of all other edges."""
        return self._with(self.upstream & ~self.kept, by=f"complement of {self.by}")

    # ---- circuits beside it, and what runs them

    def drawn(self, n: int, draws: int, seed: int, among: np.ndarray | None = None) -> np.ndarray:
        """bool `[draws, senders, receivers]`: n edges each, drawn without preference among some (None: all)."""
        draws, seed = whole_number("draws", draws, 0), whole_number("seed", seed, 0)
        return random_edges(self.upstream if among is None else among, n, draws, seed)

    @staticmethod
    def shares(sizes: Any) -> list[float]:
        """Shares of 0 to 1 that rise; InputError for anything else."""
        try:
            found = [float(size) for size in sizes]
        except (TypeError, ValueError):
            found = []
        if not found or not all(0 <= x <= 1 for x in found) or found != sorted(set(found)):
            raise InputError(
                f"sizes are shares of all edges from 0 to 1 that rise, such as (0.01, 0.1, 1), not {sizes!r}"
            )
        return found

    def values_of(self, kept: np.ndarray, pairs: Any) -> Any:
        """The metric of some circuits, and of the clean and corrupted runs, as its model has them."""
        if self._runs is None:
            raise InputError(
                "this circuit was read from a file, and no model runs it: model.circuit(circuit) binds it to one"
            )
        return self._runs(kept, pairs)

    def compare(self, other: Any) -> dict[str, Any]:
        """How far two circuits of one model have the same edges.

        Returns:
            jaccard (shared by all), shared, only_this, only_other: numbers of edges.

        Raises:
            InputError: for circuits of other senders or receivers.
        """
        if not isinstance(other, EdgeSet):
            raise InputError(f"a circuit is compared with a circuit, not with a {type(other).__name__}")
        if (self.senders, self.receivers) != (other.senders, other.receivers):
            raise InputError("the circuits are of models with other heads or layers")
        shared, either = int((self.kept & other.kept).sum()), int((self.kept | other.kept).sum())
        return {
            "jaccard": shared / either if either else 1.0,
            "shared": shared,
            "only_this": self.n - shared,
            "only_other": other.n - shared,
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return dict.fromkeys(("kept", "upstream", "scores"), (len(self.senders), len(self.receivers)))

    def _arrays(self) -> dict[str, np.ndarray]:
        return {name: x.astype(np.float64) for name, x in super()._arrays().items()}
