"""Recoveries of activation patching to look around in: bars by layer, maps by component, heads with a slider."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ..plotting import recoveries as printed
from ..plotting.protocols import Panel, Patched
from . import map_grid
from .bars import Bars, bar_figure
from .html import checked, finished
from .texts import safe, token

CELLS = 150_000  # numbers of one figure, so that a file with plotly.js stays below 6 MB


def recoveries(
    result: Patched,
    path: str | os.PathLike | None = None,
    *,
    metric: str | None = None,
    rows: Any = "auto",
    heads: Any = "auto",
) -> Any:
    """The recoveries as a figure to look around in: bars per layer, maps per component, heads with a slider.

    Args:
        result: what `activation_patching` or `attribution_patching` returns.
        path: an .html file to write as well: self-contained.
        metric: whose recovery is shown, in percent; default: the result's first.
        rows: tokens that are shown: "auto", those that matter where there are many; "all"; or a range of positions.
        heads: heads that can be chosen: "auto", as many of the strongest as a file holds; "all"; or a list.

    Returns:
        A plotly Figure.

    Raises:
        InputError: for what the result does not have, or a path that cannot be written.
        UnsupportedError: without plotly.
    """
    path = checked(path)
    panels = result.panels(metric)
    metric = metric or result.metrics[0]
    value = safe(f"recovery of {printed.words_of_metric(metric, result)}")
    title, caption = printed.describe(result), [f"{run}: {line}" for run, line in printed.run_lines(result)]
    if panels[0].column_name == "component":
        figure = bar_figure(_bars(result, panels[0]), value, "layer", " %", title, caption)
        return finished(figure, path)
    x_label = "head" if panels[0].column_name == "head" else "layer"
    hover = map_grid.Hover(panels[0].row_name, x_label, value, ".1f", " %")
    if x_label == "layer" and result.window > 1:
        x_label = f"centre of {result.window} layers"
    maps = [_map(result, panel) for panel in panels]
    scale = printed.scale_of(
        np.concatenate([one.values.ravel() for one in maps]), result.direction == "noise"
    )
    y_label = panels[0].row_name if panels[0].row_name == "layer" else ""
    if panels[0].head is None:
        figure = map_grid.facets(maps, scale, hover, title, caption, x_label, y_label)
    else:
        names = [one.title for one in maps]
        figure = map_grid.slides(maps, names, scale, hover, title, caption, x_label, y_label)
    return finished(figure, path)


def _map(result: Patched, panel: Panel) -> Any:
    names = [str(column) for column in panel.columns]
    title = printed.capital(printed.words_of(panel.component)) if panel.head is None else _head(panel)
    return printed.Map(
        panel.values,
        labels(result, panel),
        names,
        printed.family(panel.component),
        title,
        halves=panel.halves,
    )


def _head(panel: Panel) -> str:
    return f"head {panel.head}" if panel.component == "head" else f"{panel.component}, head {panel.head}"


def labels(result: Patched, panel: Panel) -> list[str]:
    """The rows of a map: each once, as positions have their number before the token."""
    if panel.row_name == "position":
        return [f"{i} {printed.position_label(result, i, token)}" for i in panel.rows]
    return [safe(name) for name in printed.row_labels(result, panel)]


def _bars(result: Patched, panel: Panel) -> list[Bars]:
    halves: Sequence[Any] = [None] * len(panel.columns) if panel.halves is None else list(panel.halves.T)
    return [
        Bars(
            printed.capital(printed.words_of(component)),
            [str(layer) for layer in panel.rows],
            values,
            half,
            printed.colour_of(component, 0.75),
            result.no_effect,
        )
        for component, values, half in zip(panel.columns, panel.values.T, halves, strict=True)
    ]
