"""What path patching returns: a map of senders and receivers that prints, makes tables, draws, saves and loads.

result.effect, result.recovery       # [sender, receiver], or [sender, receiver, position]
result.edge                          # which of them are edges at all: a receiver reads what came before it
result.top(10)
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from .. import plotting
from ..metrics import EffectError, InputError, recovery
from . import path_words
from .path_words import SHOWN, top_rows
from .saved import Answer, Record


@dataclass(repr=False, eq=False)
class PathResult(Record):
    """The metric with each receiver reading what each sender writes in the source run: `[sender, receiver]`.

    With positions or regions they are a third axis, with several metrics these are the first. Where a receiver comes
    before a sender there is no edge: such cells hold the base run's value.

    Args:
        raw: the metric's own values, float64.
        reached: 1 where there is an edge, else 0: `[sender, receiver]`.
        senders, receivers: their names.
        metrics: names. clean_values, corrupted_values: of each in either run.
        direction: "denoise" (the base run is the corrupted one) or "noise".
        target, foil: the answers, or None.
        tokens, corrupted_tokens: of the two prompts. subject_range: the subject's positions, or None.
        clean_text, corrupted_text, model: the prompts' texts, and the model's name.
        positions, regions: the labels of the third axis, where there is one.
        plan: cells, rows, passes. notes: what is to be said of these numbers. settings: what was asked for.
        part_of_set: one of many pairs: where its gap is too small its recoveries are NaN instead of an error.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> result = model.path_patching(*prompts, senders="mlp", receivers=["m11", "logits"], progress=False)
        >>> result.dims, result.raw.shape, bool(result.edge[-1, 0])
        (('sender', 'receiver'), (12, 2), False)
        >>> best = result.top(1)[0]
        >>> bool(abs(best["effect"]) == abs(result.effect).max())
        True
        >>> result.of(best["sender"], best["receiver"]) == best["effect"]
        True
        >>> len(result.to_rows()) == int(result.edge.sum())
        True
        >>> figure = result.plot()
    """

    raw: np.ndarray
    reached: np.ndarray
    senders: list[str]
    receivers: list[str]
    metrics: list[str]
    clean_values: dict[str, float]
    corrupted_values: dict[str, float]
    direction: str
    target: Answer | None
    foil: Answer | None
    tokens: list[str]
    corrupted_tokens: list[str]
    subject_range: range | None
    clean_text: str
    corrupted_text: str
    model: str
    positions: list[int] | None = None
    regions: list[str] | None = None
    plan: Any = None
    notes: list[str] = dataclasses.field(default_factory=list)
    settings: dict = dataclasses.field(default_factory=dict)
    part_of_set: bool = False

    ANSWERS = ("target", "foil")

    def __post_init__(self) -> None:
        self.figure: Any = None  # what plot=True drew

    # ---- labels

    @property
    def ids(self) -> list[str]:
        """The pairs of a set; none for the result of one pair."""
        return []

    @property
    def coords(self) -> dict[str, list]:
        """The labels of each dim."""
        found = {"metric": self.metrics} if len(self.metrics) > 1 else {}
        found = {**found, "sender": self.senders, "receiver": self.receivers}
        places = {"position": self.positions, "region": self.regions}
        return {**found, **{dim: labels for dim, labels in places.items() if labels is not None}}

    @property
    def dims(self) -> tuple[str, ...]:
        """The axes of `raw`, `effect` and `recovery`."""
        return tuple(self.coords)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        if self.positions is not None and self.regions is not None:
            raise InputError("it has positions and regions")
        shape = tuple(len(labels) for labels in self.coords.values())
        return {"raw": shape, "reached": (len(self.senders), len(self.receivers))}

    # ---- numbers

    @property
    def edge(self) -> np.ndarray:
        """Which receivers read what which senders write, bool `[sender, receiver]`."""
        return self.reached > 0

    @property
    def clean(self) -> float | dict[str, float]:
        """The metric of the clean run; a dict by name when there are several metrics."""
        return self.clean_values if len(self.metrics) > 1 else self.clean_values[self.metrics[0]]

    @property
    def corrupted(self) -> float | dict[str, float]:
        """The metric of the corrupted run; a dict by name when there are several metrics."""
        return self.corrupted_values if len(self.metrics) > 1 else self.corrupted_values[self.metrics[0]]

    @property
    def base_values(self) -> dict[str, float]:
        """The metrics of the run that was patched."""
        return self.clean_values if self.direction == "noise" else self.corrupted_values

    @property
    def effect(self) -> np.ndarray:
        """What a path changes: the metric less that of the base run, shaped as `raw`."""
        return self._by_metric(lambda values, name: values - self.base_values[name])

    @property
    def recovery(self) -> np.ndarray:
        """`100 * (raw - corrupted) / (clean - corrupted)`, percent, shaped as `raw`."""
        return self._by_metric(self._recovered)

    def _recovered(self, values: np.ndarray, name: str) -> np.ndarray:
        try:
            return recovery(values, self.clean_values[name], self.corrupted_values[name], name)
        except EffectError:
            if not self.part_of_set:
                raise
            return np.full(values.shape, np.nan)

    def _by_metric(self, of_one: Any) -> np.ndarray:
        if len(self.metrics) == 1:
            return of_one(self.raw, self.metrics[0])
        return np.stack([of_one(values, name) for values, name in zip(self.raw, self.metrics, strict=True)])

    def of(self, sender: str, receiver: str) -> np.ndarray | float:
        """The effect of one path, by the names of its ends; an array where there are positions or metrics.

        Args:
            sender, receiver: their names, as in `coords`.

        Returns:
            `patched - base`, as in `effect`.

        Raises:
            InputError: for a name that is not in the map.
        """
        for name, known in ((sender, self.senders), (receiver, self.receivers)):
            if name not in known:
                raise InputError(f"{name!r} is not in this map: it has {', '.join(known[:6])} ...")
        axis = self.dims.index("sender")
        at = (*[slice(None)] * axis, self.senders.index(sender), self.receivers.index(receiver))
        found = self.effect[at]
        return float(found) if found.ndim == 0 else found

    # ---- tables

    def to_rows(self) -> list[dict[str, Any]]:
        """The edges as a table: cells that are none are left out.

        Returns:
            One dict per edge: sender, receiver, position and token or region (those there are), then for the first
            metric its name and value, effect, and recovery (None where it means nothing); of several metrics
            `<metric>`, `<metric>_effect` and `<metric>_recovery` each.
        """
        parts = [
            x.reshape(len(self.metrics), len(self.senders), len(self.receivers), -1) for x in self._tables()
        ]
        rows = []
        for i, j in np.argwhere(self.edge):
            for p in range(parts[0].shape[-1]):
                row: dict[str, Any] = {
                    "sender": self.senders[i],
                    "receiver": self.receivers[j],
                    **self._place(p),
                }
                for m, metric in enumerate(self.metrics):
                    before = f"{metric}_" if len(self.metrics) > 1 else ""
                    row[metric] = float(parts[0][m, i, j, p])
                    for name, values in zip(self._columns(), parts[1:], strict=True):
                        value = values[m, i, j, p]
                        row[f"{before}{name}"] = None if np.isnan(value) else float(value)
                rows.append(row)
        return rows

    def _tables(self) -> list[np.ndarray]:
        """What a row has of a cell: the metric, and the columns."""
        return [self.raw, self.effect, self.recovery]

    def _columns(self) -> list[str]:
        return ["effect", "recovery"]

    def _place(self, index: int) -> dict[str, Any]:
        if self.positions is not None:
            position = self.positions[index]
            token = {"token": self.tokens[position]} if self.tokens else {}
            return {"position": position, **token}
        return {} if self.regions is None else {"region": self.regions[index]}

    def top(self, k: int = SHOWN) -> list[dict[str, Any]]:
        """The k edges that change the first metric most, in either direction, strongest first.

        Args:
            k: how many.

        Returns:
            Rows as `to_rows` has them.

        Raises:
            InputError: when k is not a whole number of 0 or more.
        """
        return top_rows(self.to_rows(), self.key, k, abs)

    @property
    def key(self) -> str:
        """The column of a row that has the effect on the first metric."""
        return "effect" if len(self.metrics) == 1 else f"{self.metrics[0]}_effect"

    # ---- to look at

    @property
    def title(self) -> str:
        """What was patched, in words."""
        return path_words.title(self)

    @property
    def runs(self) -> list[tuple[str, str]]:
        """The two runs in words: what they were given, and what they answer."""
        return path_words.runs(self)

    def __repr__(self) -> str:
        return path_words.text(self)

    def _repr_html_(self) -> str:
        return path_words.as_html(self)

    def plot(
        self, path: str | os.PathLike | None = None, most: int = 40, **look: Unpack[plotting.Look]
    ) -> Any:
        """A map of effects: senders down, receivers across; with positions, the strongest edges down, tokens across.

        Args:
            path: a PNG, PDF or SVG to write as well.
            most: senders and receivers that are shown at most: those with the strongest edges.
            look: `ax` or `fig` to draw on, and `caption`, as in every plot.

        Returns:
            The matplotlib `Figure`.

        Raises:
            InputError: when the path cannot be written.
        """
        return plotting.path_map(self, path, most, **look)
