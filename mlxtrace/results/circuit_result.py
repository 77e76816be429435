"""A circuit: the edges that stay clean while all others are corrupted; how faithful it is, and how it looks.

circuit = edges.circuit(50)
circuit.faithfulness()           # 1: it does all that the model does; 0: no more than the corrupted run
circuit.curve().cpr              # over the sizes of MIB (arXiv:2504.13151)
"""

from __future__ import annotations

import os
from typing import Any, Unpack

import numpy as np
from matplotlib.figure import Figure

from ..plotting.circuit_graph import Look, circuit_graph
from .circuit_curve import SIZES, Completeness, Curve, Faithfulness
from .edge_set import EdgeSet
from .printing import bars, page

METHODS = {
    "exact": "measured, each edge by itself",
    "eap": "approximate: gradients, not measured (EAP, Syed et al. 2023)",
    "eap-ig": "approximate: gradients, not measured (EAP-IG, Hanna et al. 2024)",
}


class Circuit(EdgeSet):
    """Edges of a model that stay clean while all others are corrupted.

    Loaded from a file it can be looked at and compared; `model.circuit(circuit)` binds it to a model that runs it.

    Args:
        kept, upstream: bool `[senders, receivers]`: its edges, and all that there are.
        scores: float64 `[senders, receivers]`, as `Edges.scores`; senders, receivers: their names.
        asked, by, absolute: how many edges were chosen before pruning, and how.
        metric, method, direction, steps, model: of the scores.
        toward: 1 where a larger score helps the clean answer, -1 where a smaller one does.
        notes: what must be known to read it.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("induction")
        >>> words = "hive cart chair cow cork book milk hive cart chair cow"
        >>> prompts = f"{words} cork", f"{words.replace('cork', 'coat')} cork"
        >>> circuit = model.edges(*prompts, progress=False).circuit(9)
        >>> circuit.n == len(circuit.to_rows()) == 9, 0 < circuit.share < 100
        (True, True)
        >>> circuit.to_dot().splitlines()[0], len(circuit.plot(most=20).axes)
        ('digraph circuit {', 1)
        >>> few = circuit.without(*circuit.edges[5:])
        >>> [len(few.minimality()), few.random(draws=2).shape]
        [5, (2,)]
        >>> len(few.completeness(draws=1).model)
        1
        >>> bool(circuit.curve(sizes=(0.1, 1), random=0).edges[-1] == circuit.upstream.sum())
        True
    """

    # ---- what it does

    def faithfulness(self, pairs: Any = None) -> Faithfulness:
        """How much of what tells the clean from the corrupted run the circuit does, exactly.

        `(circuit - corrupted) / (clean - corrupted)`, mean over mean: the circuit's edges carry what their senders
        write in this very pass, all others what they write in the corrupted run.

        Args:
            pairs: one pair or many, as `model.edges` takes them; None: those of the scores.

        Returns:
            A float, with `.interval`, `.per_pair` and the metric's values.

        Raises:
            InputError: when there is no model to run it: `model.circuit(circuit)` binds it to one.
            UnsupportedError: when the model's stream is not the sum of what is written to it.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
            >>> edges = model.edges(*prompts, method="eap", progress=False)
            >>> whole, none = edges.circuit(edges.n).faithfulness(), edges.circuit(0).faithfulness()
            >>> abs(whole - 1) < 1e-4, abs(none) < 1e-4
            (True, True)
        """
        return self._measured(self.kept[None], pairs)[0]

    def _measured(self, kept: np.ndarray, pairs: Any) -> list[Faithfulness]:
        """The faithfulness of some circuits `[circuits, senders, receivers]`."""
        values, clean, corrupted, ids = self.values_of(kept, pairs)
        return [Faithfulness.of(one, clean, corrupted, ids, self.metric) for one in values]

    def curve(
        self,
        pairs: Any = None,
        sizes: Any = SIZES,
        by: str = "top",
        absolute: bool = True,
        random: int = 3,
        seed: int = 0,
    ) -> Curve:
        """The faithfulness of circuits of several sizes, chosen by the same scores, and random ones of each size.

        Args:
            pairs: where it is measured; None: on the pairs of the scores.
            sizes: shares of all edges, rounded down to whole edges; default: MIB's, from 0.1 % to all.
            by, absolute: as `Edges.circuit` takes them; which of them MIB takes differs by version of its code.
            random: how many random circuits of each size; 0 for none.
            seed: of the random circuits.

        Returns:
            A `Curve`: `.faithfulness`, `.cpr`, `.cmd`, `.random`.

        Raises:
            InputError: for sizes that are not shares of 0 to 1 that rise.
        """
        shares, total = self.shares(sizes), int(self.upstream.sum())
        asked = [int(share * total + 1e-9) for share in shares]
        circuits = [self.chosen(n, by, absolute) for n in asked]
        drawn = [self.drawn(n, random, seed + i) for i, n in enumerate(asked)]
        kept = np.concatenate([np.stack([c.kept for c in circuits]), *drawn])
        found = self._measured(kept, pairs)
        return Curve.of(self, shares, asked, [c.n for c in circuits], by, absolute, found, random)

    def minimality(self, pairs: Any = None) -> list[dict[str, Any]]:
        """What each edge contributes: by how much faithfulness falls when it alone is dropped, most first.

        Args:
            pairs: where it is measured; None: on the pairs of the scores.

        Returns:
            One dict per edge: sender, receiver, drop.
        """
        places = np.argwhere(self.kept)
        kept = np.repeat(self.kept[None], len(places) + 1, 0)
        kept[np.arange(len(places)), places[:, 0], places[:, 1]] = False
        *found, whole = self._measured(kept, pairs)
        rows = [
            {"sender": self.senders[s], "receiver": self.receivers[r], "drop": float(whole) - float(one)}
            for (s, r), one in zip(places.tolist(), found, strict=True)
        ]
        return sorted(rows, key=lambda row: -row["drop"])

    def completeness(self, pairs: Any = None, draws: int = 10, seed: int = 0) -> Completeness:
        """Whether something outside the circuit does its work as well (Wang et al. 2022, section 4).

        Args:
            pairs: where it is measured; None: on the pairs of the scores.
            draws: random halves K of the circuit that are dropped, from the circuit and from the whole model.
            seed: of the draws.

        Returns:
            A `Completeness`: the complement's faithfulness, and for each K that of circuit and model without it.
        """
        drawn = self.drawn(self.n // 2, draws, seed, self.kept)
        kept = np.concatenate(
            [(self.upstream & ~self.kept)[None], self.kept & ~drawn, self.upstream & ~drawn]
        )
        complement, *found = self._measured(kept, pairs)
        return Completeness(complement, [float(f) for f in found[:draws]], [float(f) for f in found[draws:]])

    def random(self, draws: int = 20, pairs: Any = None, seed: int = 0) -> np.ndarray:
        """The faithfulness of random circuits with as many edges, drawn without preference.

        Args:
            draws: how many.
            pairs: where it is measured; None: on the pairs of the scores.
            seed: of the draws.

        Returns:
            float64 `[draws]`.
        """
        kept = self.drawn(self.n, draws, seed)
        return np.array([float(found) for found in self._measured(kept, pairs)])

    # ---- to look at

    def __repr__(self) -> str:
        of_all = f"{self.n} of {int(self.upstream.sum())} edges ({self.share:z.3g} %)"
        chosen_by = f"chosen by {self.by}, {'size' if self.absolute else 'signed score'}"
        lines = [f"{chosen_by}; scores: {METHODS[self.method]}", f"metric: {self.metric}"]
        rows = self.to_rows()[:10]
        names = [f"{row['sender']} -> {row['receiver']}" for row in rows]
        body = bars("edge", names, {"score": np.array([row["score"] for row in rows])}) if rows else []
        return page(f"{type(self).__name__}: {of_all}", lines, self.notes, body)

    def plot(
        self, path: str | os.PathLike | None = None, most: int | None = 60, **look: Unpack[Look]
    ) -> Figure | str:
        """Draw the circuit: layers up, heads and MLPs as nodes, width and colour of an edge by its score.

        Args:
            path: where the figure goes as well: .png, .pdf or .svg; or .dot for a text that Graphviz draws.
            most: edges that are drawn at most, the strongest; fewer where they do not fit a page, and how many are
                left out is said. None: all.
            look: `ax` or `fig` to draw on, and `caption`, as in every plot.

        Returns:
            A matplotlib Figure; for .dot the text.

        Raises:
            InputError: when the path cannot be written.
        """
        return circuit_graph(self, path, most, **look)

    def to_dot(self) -> str:
        """The circuit in the DOT language, which Graphviz draws."""
        text = circuit_graph(self, None, None, dot=True)
        assert isinstance(text, str)
        return text
