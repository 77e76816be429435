"""Averages of causal traces over facts, as they print, are drawn, saved and loaded."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from matplotlib.figure import Figure

from .. import plotting
from ..anatomy.components import short_words, wide_window
from ..errors import InputError
from ..terminal import elided, printable
from ..text.regions import ROLES
from .saved import Record


@dataclass(repr=False, eq=False)
class AverageTrace(Record):
    """Averages of causal traces over facts, by kind, role of a token, and layer, with 95 % intervals.

    The effect of a cell is `score - low_score` of the same fact. The authors' figures subtract the mean low_score of
    all facts and take the deviation of the scores themselves (ddof 0); where a fact has several tokens of a role or
    none (middle subject and further tokens) the two differ by up to 0.075, elsewhere hardly.

    Args:
        indirect_effect: `[kinds, roles, layers]`, the mean over tokens, in probability; NaN for a role without token.
        interval: the same shape, half-widths of the 95 % intervals (1.96 standard errors, facts being the units).
        kinds: what was restored: None (one layer output), "mlp", "attn".
        counts: tokens of each role.
        total_effect, total_interval: the mean of high_score - low_score, and the half-width of its interval.
        high_score, low_score: mean probability of the answer in the clean and in the corrupted run.
        window: layers restored together.
        model: the model's name.
        ids: the facts that were averaged.
        skipped: those that were not: their fields, and why.
        folder: where the traces are.
        settings: of the run, with their hash.

    Example:
        >>> import tempfile
        >>> from mlxtrace import InterpretableModel, facts
        >>> model = InterpretableModel("demo")
        >>> with tempfile.TemporaryDirectory() as out:
        ...     average = facts.run(model, facts.load()[:2], out, kinds=(None,), samples=1, progress=False)
        >>> average.of(None).shape == (len(average.roles), model.n_layers)
        True
        >>> role, layer = average.peak()
        >>> role in average.roles, layer < model.n_layers
        (True, True)
        >>> average.to_rows()[0]["tokens"]
        2
        >>> figures = average.plot(), average.plot_lines()
    """

    indirect_effect: np.ndarray
    interval: np.ndarray
    kinds: list
    counts: list[int]
    total_effect: float
    total_interval: float
    high_score: float
    low_score: float
    window: int
    model: str
    ids: list[str]
    skipped: list[dict] = dataclasses.field(default_factory=list)
    folder: str = ""
    settings: dict = dataclasses.field(default_factory=dict)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        if len(self.counts) != len(ROLES):
            raise InputError(f"it has counts of {len(self.counts)} roles, not of {len(ROLES)}")
        shape = (len(self.kinds), len(ROLES), self.indirect_effect.shape[-1])
        return {"indirect_effect": shape, "interval": shape}

    def known(self, name: str) -> Any:
        """Roles without a token have no effect, and those of a single fact no interval: NaN is what is meant."""
        return np.s_[:, [name == "indirect_effect" and count > 0 for count in self.counts]]

    @property
    def facts(self) -> int:
        return len(self.ids)

    @property
    def roles(self) -> tuple[str, ...]:
        return ROLES

    def of(self, kind: str | None) -> np.ndarray:
        """The average indirect effects of one kind.

        Args:
            kind: one of `kinds`.

        Returns:
            `[roles, layers]`, in probability.

        Raises:
            InputError: when the kind was not traced.
        """
        if kind not in self.kinds:
            raise InputError(f"kind {kind!r} was not traced: {self.kinds} were")
        return self.indirect_effect[self.kinds.index(kind)]

    def peak(self, kind: str | None = None) -> tuple[str, int]:
        """Where the average indirect effect of a kind is largest.

        Args:
            kind: one of `kinds`.

        Returns:
            The role and the layer.

        Raises:
            InputError: when the kind was not traced.
        """
        values = self.of(kind)
        role, layer = np.unravel_index(np.nanargmax(values), values.shape)
        return ROLES[role], int(layer)

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per kind, role and layer that has tokens: indirect_effect, interval (None for one fact), tokens."""
        rows = []
        for kind, effects, halves in zip(self.kinds, self.indirect_effect, self.interval, strict=True):
            for role, effect, half, count in zip(ROLES, effects, halves, self.counts, strict=True):
                for layer, (e, h) in enumerate(zip(effect, half, strict=True)):
                    if count:
                        row = {"kind": kind, "role": role, "layer": layer, "tokens": count}
                        row["indirect_effect"] = float(e)
                        rows.append({**row, "interval": None if np.isnan(h) else float(h)})
        return rows

    def plot(self, path: str | os.PathLike | None = None, **look: Unpack[plotting.Look]) -> Figure:
        """Six rows of tokens by layers, a map for each kind, on one colour scale.

        Args:
            path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
            look: `fig` to draw on, and `caption`, as in every plot.

        Returns:
            A matplotlib Figure.

        Raises:
            InputError: when the path cannot be written.
        """
        return plotting.average_maps(self, path, **look)

    def plot_lines(self, path: str | os.PathLike | None = None, **look: Unpack[plotting.Look]) -> Figure:
        """A line with its 95 % band for each role, a panel for each kind.

        Args:
            path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
            look: `fig` to draw on, and `caption`, as in every plot.

        Returns:
            A matplotlib Figure.

        Raises:
            InputError: when the path cannot be written.
        """
        return plotting.average_lines(self, path, **look)

    def __repr__(self) -> str:
        wide = wide_window(self.window, self.indirect_effect.shape[-1])
        lines = [
            f"AverageTrace: {self.facts} facts on {self.model}"
            + (f", {len(self.skipped)} skipped" if self.skipped else ""),
            f"  average total effect {self.total_effect:z.4f} ± {self.total_interval:z.4f}: "
            f"clean {self.high_score:z.4f}, corrupted {self.low_score:z.4f}",
            *([f"  note: {wide}"] if wide else []),
            "",
            "  largest average indirect effect by layer, ± its 95 % interval (1.96 standard errors)",
            f"  {'':<24}{'tokens':>6}" + "".join(f"   {short_words(k):<25}" for k in self.kinds).rstrip(),
        ]
        for i, (role, count) in enumerate(zip(ROLES, self.counts, strict=True)):
            cells = [self._peak_cell(k, i) if count else "-" for k in range(len(self.kinds))]
            lines.append(f"  {role:<24}{count:>6}" + "".join(f"   {cell:<25}" for cell in cells).rstrip())
        wrong = self.skipped[:3]
        lines += [f"  skipped: {s['id']} {elided(s['prompt'], 100)!r}: {s['why']}" for s in wrong]
        if len(self.skipped) > len(wrong):
            lines.append(f"  ... and {len(self.skipped) - len(wrong)} more, see .skipped")
        return printable("\n".join(lines))

    def _peak_cell(self, kind: int, role: int) -> str:
        layer = int(self.indirect_effect[kind, role].argmax())
        value, half = self.indirect_effect[kind, role, layer], self.interval[kind, role, layer]
        return f"{value:z7.4f} ± {half:z.4f} (layer {layer})"
