"""One result of activation patching less another, cell by cell and pair by pair.

found = result_a - result_b          # of the same pairs: two models, components, metrics, windows, corruptions
found.recovery, found.interval       # percentage points, and the half-width of the paired 95 % interval
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

import numpy as np
from matplotlib.figure import Figure

from ..arguments import text_at, whole_number
from ..errors import InputError, closest
from ..plotting.subtraction import Look, difference
from .cells import WHERE, Panel, cells_of, largest, panels_of
from .intervals import known
from .printing import (
    CELLS,
    OF_A_DIFFERENCE,
    SHADES,
    TINTS,
    across,
    bars,
    document,
    heat,
    most_rows,
    over,
    page,
    quoted,
    shaded,
    strongest,
    uncertain,
)
from .saved import Saved

MAPS = 4  # that are printed
TINT = TINTS["resid"]


class PatchingDifference(Saved):
    """The recoveries of one result less those of another, in percentage points; of sets, pair by pair.

    Made by `result_a - result_b`. The interval is that of the paired difference: with `d_i` what pair i adds to the
    first recovery less what it adds to the second (both linearised), `1.96 sqrt(n / (n - 1) sum d_i^2) / n`. It is
    narrower than the two intervals let expect where pairs go up and down together.

    Args:
        first, second: the recoveries, percent, over the pairs that have the cell in both.
        interval: half-widths of the paired intervals, percentage points; NaN for single results.
        n: pairs per cell.
        dims, coords: as the results have them.
        components, metrics: those of both; one of each may differ, and is called "mlp - attn".
        names: what either result is called: what sets them apart.
        ids: the pairs, none for single results.
        title: what both are.
        notes: what must be known to read the numbers.
        tokens: of the first result's prompt, for maps by position.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> one, other = (model.activation_patching(*prompts, component=c, progress=False) for c in ("mlp", "attn"))
        >>> found = one - other
        >>> found.names, bool(found.recovery[3] == one[3] - other[3])
        (('mlp', 'attn'), True)
        >>> found.top(1)[0]["difference"] == float(max(found.recovery, key=abs))
        True
        >>> len(found.to_rows()) == model.n_layers
        True
        >>> figure = found.plot()
    """

    ARRAYS: ClassVar[tuple[str, ...]] = ("first", "second", "interval", "n")
    no_effect = 0.0

    def __init__(
        self,
        *,
        first: np.ndarray,
        second: np.ndarray,
        interval: np.ndarray,
        n: np.ndarray,
        dims: Sequence[str],
        coords: dict[str, list],
        components: list[str],
        metrics: list[str],
        names: Sequence[str],
        ids: Sequence[str],
        title: str,
        notes: Sequence[str] = (),
        tokens: Sequence[str] = (),
    ) -> None:
        self.first, self.second, self.interval = first, second, interval
        self.recovery = first - second
        self.n = np.asarray(n, int)
        self.dims, self.coords = tuple(dims), dict(coords)
        self.components, self.metrics, self.ids = list(components), list(metrics), list(ids)
        self.names, self.title, self.notes = (names[0], names[1]), title, list(notes)
        self.tokens = list(tokens)

    @property
    def low(self) -> np.ndarray:
        """Where each difference's interval begins, percentage points."""
        return self.recovery - self.interval

    @property
    def high(self) -> np.ndarray:
        """Where each difference's interval ends, percentage points."""
        return self.recovery + self.interval

    def to_rows(self) -> list[dict[str, Any]]:
        """The cells as a table.

        Returns:
            One dict per cell and metric: component, layer, position, token, region, head (those there are), metric,
            first and second (recoveries, percent), difference, n, low and high (None where they are not known).
        """
        return self._rows()

    def _rows(self, at: np.ndarray | None = None) -> list[dict[str, Any]]:
        """The rows of all cells, or of some by their places in that order."""
        rows, which = [], slice(None) if at is None else at
        arrays = (self.first, self.second, self.recovery, self.low, self.high, self.n)
        columns = [self._metric_last(x).reshape(-1, len(self.metrics))[which] for x in arrays]
        for i, cell in enumerate(cells_of(self.dims, self.coords, self.components[0], self.tokens, at)):
            for j, metric in enumerate(self.metrics):
                first, second, difference, low, high = (known(float(x[i, j])) for x in columns[:5])
                row = {**cell, "metric": metric, "first": first, "second": second, "difference": difference}
                rows.append({**row, "n": int(columns[5][i, j]), "low": low, "high": high})
        return rows

    def top(self, k: int = 5) -> list[dict[str, Any]]:
        """The k cells that differ most by the first metric, either way round.

        Args:
            k: how many.

        Returns:
            Dicts as in `to_rows`.

        Raises:
            InputError: when k is not a whole number of 0 or more.
        """
        size = np.abs(self._metric_last(self.recovery).reshape(-1, len(self.metrics))[:, 0])
        return self._rows(largest(size, whole_number("k", k, 0)))[:: len(self.metrics)]

    def panels(self, metric: str | None = None) -> list[Panel]:
        """The differences of one metric (the first) as tables, with the half-widths of their intervals."""
        metric = self.metrics[0] if metric is None else metric
        if metric not in self.metrics:
            raise InputError(
                f"this difference has no metric {metric!r}; {closest(str(metric), self.metrics)}"
            )
        j = self.metrics.index(metric)
        values, halves = (self._metric_last(x)[..., j] for x in (self.recovery, self.interval))
        return panels_of(self.coords, self.components, values, halves)

    def _metric_last(self, values: np.ndarray) -> np.ndarray:
        return (
            np.moveaxis(values, self.dims.index("metric"), -1) if "metric" in self.dims else values[..., None]
        )

    def __repr__(self) -> str:
        body = self._what()
        panels = self.panels()
        if panels[0].column_name == "component":
            body += self._bars(panels[0])
        else:
            which, said = strongest([panel.values for panel in panels], MAPS)
            for i in which:
                body += self._map(panels[i], len(which))
            body += [f"  {said}"] if said else []
        lines = [f"{self.names[0]} less {self.names[1]}"]
        return page(self.title, lines, self.notes, body + self._strongest(panels[0]))

    def _repr_html_(self) -> str:
        panels = self.panels()
        which, said = strongest([panel.values for panel in panels], MAPS)
        parts = [self._html_panel(panels[i], CELLS // len(which)) for i in which]
        lines = [f"{self.names[0]} less {self.names[1]}", *self._what(), *([said] if said else [])]
        return document(self.title, lines, self.notes, parts)

    def _what(self) -> list[str]:
        """What the numbers are."""
        paired = f", paired by id{over(self.ids)}, ± its interval" if self.ids else ""
        what = [f"difference of the recoveries of {self.metrics[0]}, percentage points{paired}"]
        return what + ([f"  {OF_A_DIFFERENCE}; ? where it covers no difference"] if len(self.ids) > 1 else [])

    def _bars(self, panel: Panel) -> list[str]:
        halves = panel.values * np.nan if panel.halves is None else panel.halves
        unsure = uncertain(panel.values, panel.halves)
        columns = {c: panel.values[:, i] for i, c in enumerate(panel.columns)}
        return bars(
            "layer",
            panel.rows,
            columns,
            halves={c: halves[:, i] for i, c in enumerate(columns)},
            unsure={c: unsure[:, i] for i, c in enumerate(columns)},
            digits=1,
        )

    def _names(self, panel: Panel) -> list[str]:
        if panel.row_name != "position":
            return [str(row) for row in panel.rows]
        return [f"{p:>3} {text_at(p, lambda i: quoted(self.tokens[i])[1:-1])}" for p in panel.rows]

    def _kept(self, panel: Panel) -> dict[str, Any]:
        """How the rows of a panel may be cut: not regions, and never the last token."""
        last = panel.rows[-1:] if panel.row_name == "position" else []
        numbered = panel.row_name != "region"
        return {"row": panel.row_name, "labels": panel.rows if numbered else None, "keep": last}

    def _map(self, panel: Panel, maps: int) -> list[str]:
        head = "" if panel.head is None else f" {panel.head}"
        most = float(np.nan_to_num(np.abs(self.recovery)).max())
        shades = f"{SHADES} of {most:z.1f} points, - where the second is higher"
        heading = f"  {panel.component}{head}: {across(panel.column_name, panel.columns)}; {shades}"
        options = {**self._kept(panel), "column": panel.column_name, "most": most_rows(panel.row_name, maps)}
        marks = uncertain(panel.values, panel.halves)
        return shaded(heading, self._names(panel), panel.values, most, marks, **options)

    def _html_panel(self, panel: Panel, cells: int) -> str:
        halves = panel.values * np.nan if panel.halves is None else panel.halves
        marks = uncertain(panel.values, panel.halves)

        def cell(i: int, j: int) -> str:
            half = "" if np.isnan(halves[i, j]) else f" ± {halves[i, j]:z.1f}"
            return f"{panel.values[i, j]:z.1f}{half}{' ?' if marks[i, j] else ''}"

        corner = f"{panel.component}{'' if panel.head is None else f' {panel.head}'}" or panel.row_name
        options = {**self._kept(panel), "cells": cells, "whole": 100.0}
        return heat(corner, self._names(panel), panel.columns, panel.values, cell, TINT, **options)

    def _strongest(self, panel: Panel) -> list[str]:
        if panel.column_name == "component" and "neuron" not in self.dims:
            return []
        lines = ["", "differ most:"]
        for row in self.top():
            where = ", ".join(f"{d} {row[d]}" for d in WHERE if d in row)
            half = "" if row["high"] is None else f" ± {row['high'] - row['difference']:<z5.1f}"
            told = f"{row['difference']:z7.1f}{half}  {row['component']}, {where}"
            lines.append(f"  {told}: {row['first']:z.1f} and {row['second']:z.1f}")
        return lines

    def plot(
        self,
        path: str | os.PathLike | None = None,
        metric: str | None = None,
        rows: Any = "auto",
        **look: Unpack[Look],
    ) -> Figure:
        """The differences as bars by layer or as maps, white where there is none.

        Args:
            path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
            metric: whose are drawn; default: the first.
            rows: which tokens maps show: "auto", of a long prompt those that matter; "all"; or positions.
            look: `ax` or `fig` to draw on, and `caption`, as in every plot.

        Returns:
            A matplotlib Figure.

        Raises:
            InputError: for an unknown metric, or a path that cannot be written, before drawing.
        """
        return difference(self, path, metric, rows, **look)

    def _header(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in (*self.ARRAYS, "recovery")}

    def _arrays(self) -> dict[str, np.ndarray]:
        return {name: np.asarray(getattr(self, name), float) for name in self.ARRAYS}

    @classmethod
    def _made_of(cls, header: dict[str, Any], arrays: dict[str, Any]) -> PatchingDifference:
        found = cls(**header, **{name: arrays[name] for name in cls.ARRAYS})
        if any(
            x.shape != tuple(len(found.coords[dim]) for dim in found.dims) for x in found._arrays().values()
        ):
            raise ValueError("its arrays do not fit its labels")
        return found
