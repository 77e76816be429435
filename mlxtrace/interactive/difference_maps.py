"""One result less another, to look around in: bars by layer, or maps that are white where there is no difference."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .toolbox import (
    Bars,
    Hover,
    Map,
    Panel,
    Scale,
    Subtracted,
    bar_figure,
    checked,
    colour_of,
    facets,
    finished,
    heads_that_fit,
    joint,
    model_name,
    numbered,
    refuse_rows,
    rows_that_matter,
    safe,
    slides,
)

VALUE = "difference"


def differences(
    result: Subtracted,
    path: str | os.PathLike | None = None,
    *,
    metric: str | None = None,
    rows: Any = "auto",
    heads: Any = "auto",
) -> Any:
    """What `result_a - result_b` is, in percentage points: bars, maps by component, heads with a slider.

    Args:
        result: a difference of two results of activation patching.
        path: an .html file to write as well.
        metric: whose difference is shown; default: the first.
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
        >>> one, other = (model.activation_patching(*prompts, component=c, progress=False) for c in ("mlp", "attn"))
        >>> interactive.differences(one - other).layout.yaxis.title.text
        'difference'
    """
    path = checked(path)
    panels = result.panels(metric)
    names = " less ".join(map(model_name, result.names))
    title = result.title if " less " in result.title else f"{names}: {result.title}"
    caption = [f"recovery: {names}, in percentage points"]
    if panels[0].row_name != "position":
        refuse_rows(rows)
    if panels[0].column_name == "component":
        return finished(bar_figure(_bars(panels[0]), VALUE, "layer", " points", title, caption), path)
    maps = [_map(result, panel) for panel in panels]
    most = max(1.0, *(float(np.nan_to_num(np.abs(one.values)).max()) for one in maps))
    scale = Scale(-most, most, 0.0)
    if panels[0].row_name == "position":
        maps, said = rows_that_matter(maps, scale, rows, panels[0].rows, {len(result.tokens) - 1})
        caption += [*joint(panels[0].rows), *said]
    row = "token" if panels[0].row_name == "position" else panels[0].row_name
    hover = Hover(row, panels[0].column_name, VALUE, ".1f", " points")
    down = "layer" if row == "layer" else ""
    if panels[0].head is None:
        return finished(facets(maps, scale, hover, title, caption, hover.column, down), path)
    some, left = heads_that_fit(maps, [panel.head for panel in panels], scale, heads)
    maps = [maps[i] for i in some]
    return finished(slides(maps, scale, hover, title, [*caption, *left], hover.column, down), path)


def _map(result: Subtracted, panel: Panel) -> Map:
    rows = [safe(str(row)) for row in panel.rows]
    if panel.row_name == "position":
        rows = numbered(result.tokens, panel.rows, None)
    title = panel.component if panel.head is None else f"{panel.component}, head {panel.head}"
    columns = [str(column) for column in panel.columns]
    return Map(panel.values, rows, columns, "resid", title, halves=panel.halves)


def _bars(panel: Panel) -> list[Bars]:
    layers = [str(layer) for layer in panel.rows]
    halves = [None] * len(panel.columns) if panel.halves is None else list(panel.halves.T)
    return [
        Bars(component, layers, values, half, colour_of(None, 0.8))
        for component, values, half in zip(panel.columns, panel.values.T, halves, strict=True)
    ]
