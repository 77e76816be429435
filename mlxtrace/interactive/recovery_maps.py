"""Recoveries of activation patching to look around in: bars by layer, maps by component, heads with a slider."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from .toolbox import (
    ROOM,
    Bars,
    Hover,
    InputError,
    Map,
    Panel,
    Patched,
    bar_figure,
    capital,
    checked,
    colour_of,
    describe,
    facets,
    family,
    finished,
    heads_that_fit,
    joint,
    position_label,
    prompts,
    refuse_rows,
    row_labels,
    rows_that_matter,
    run_lines,
    safe,
    scale_of,
    short,
    slides,
    token,
    words_of,
    words_of_metric,
)


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

    Example:
        >>> from mlxtrace import InterpretableModel, interactive
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> result = model.activation_patching(*prompts, component="head", positions="each", progress=False)
        >>> figure = interactive.recoveries(result)
        >>> [step.label for step in figure.layout.sliders[0].steps][:2]
        ['head 0', 'head 1']
    """
    path = checked(path)
    panels = result.panels(metric)
    metric = metric or result.metrics[0]
    value = short(f"recovery of {words_of_metric(metric, result)}")
    title, caption = describe(result), prompts(run_lines(result, ROOM))
    _check(panels[0], rows, heads)
    if panels[0].column_name == "component":
        across = "layer" if result.settings.get("windows") else _layers(result, result.components[0])
        bars = _bars(result, panels[0])
        return finished(bar_figure(bars, value, "layer", " %", title, caption, x_label=across), path)
    maps = [_map(result, panel) for panel in panels]
    scale = scale_of(np.concatenate([x.values.ravel() for x in maps]), result.direction == "noise")
    caption += _beyond(maps, scale)
    if panels[0].row_name == "position":
        keep = {*(result.subject_range or ()), len(result.tokens) - 1}
        maps, cut = rows_that_matter(maps, scale, rows, panels[0].rows, keep)
        caption += [*joint(panels[0].rows), *cut]
    row = "token" if panels[0].row_name == "position" else panels[0].row_name
    hover = Hover(row, panels[0].column_name, value, ".1f", " %")
    across = hover.column if hover.column != "layer" else _layers(result, panels[0].component)
    down = "layer" if row == "layer" else ""
    if panels[0].head is None:
        return finished(facets(maps, scale, hover, title, caption, across, down), path)
    some, left = heads_that_fit(maps, [panel.head for panel in panels], scale, heads)
    maps = [maps[i] for i in some]
    return finished(slides(maps, scale, hover, title, [*caption, *left], across, down), path)


def _layers(result: Patched, component: str) -> str:
    """What an axis of layers is called; components may have windows of their own."""
    windows = result.settings.get("windows") or {}
    n = windows.get(component, result.window)
    alone = "single layer" if windows else "layer"
    return alone if n == 1 else f"centre of {n} layers"


def _apart(result: Patched, component: str) -> str:
    """The window of a component behind its name, where windows differ."""
    return f", {_layers(result, component)}" if result.settings.get("windows") else ""


def _check(panel: Panel, rows: Any, heads: Any) -> None:
    """InputError for a choice of rows or heads that the figure does not have."""
    if panel.row_name != "position":
        refuse_rows(rows)
    if panel.head is None and not (isinstance(heads, str) and heads in ("auto", "all")):
        raise InputError(f"heads={heads!r}: this result has no map for each head")


def _beyond(maps: Sequence[Any], scale: Any) -> list[str]:
    """What is said of values that the colours do not reach."""
    values = np.concatenate([one.values.ravel() for one in maps])
    least, most = float(np.nanmin(values)), float(np.nanmax(values))
    ends = ((least, scale.low, least < scale.low - 1e-9), (most, scale.high, most > scale.high + 1e-9))
    return [f"colours end at {end:z.0f} %, values at {value:z.0f} %" for value, end, beyond in ends if beyond]


def _map(result: Patched, panel: Panel) -> Any:
    names = [str(column) for column in panel.columns]
    title = capital(words_of(panel.component)) if panel.head is None else _head(panel)
    return Map(
        panel.values,
        labels(result, panel),
        names,
        family(panel.component),
        title,
        _layers(result, panel.component) if panel.column_name == "layer" else "",
        halves=panel.halves,
    )


def _head(panel: Panel) -> str:
    return f"head {panel.head}" if panel.component == "head" else f"{panel.component}, head {panel.head}"


def labels(result: Patched, panel: Panel) -> list[str]:
    """The rows of a map: each once, as positions have their number before the token."""
    if panel.row_name == "position":
        return [f"{i} {position_label(result, i, token)}" for i in panel.rows]
    return [safe(name) for name in row_labels(result, panel)]


def _bars(result: Patched, panel: Panel) -> list[Bars]:
    halves: Sequence[Any] = [None] * len(panel.columns) if panel.halves is None else list(panel.halves.T)
    return [
        Bars(
            capital(words_of(component)) + _apart(result, component),
            [str(layer) for layer in panel.rows],
            values,
            half,
            colour_of(component, 0.75),
            result.no_effect,
        )
        for component, values, half in zip(panel.columns, panel.values.T, halves, strict=True)
    ]
