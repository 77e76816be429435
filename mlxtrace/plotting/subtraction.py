"""One result less another, in percentage points: bars by layer, or maps that are white where there is no difference."""

from __future__ import annotations

import os
from typing import Any, Unpack

import numpy as np
from matplotlib.figure import Figure

from .charts import (
    LESS,
    MORE,
    WHISKERS_MEAN,
    Look,
    Sheet,
    by_layer,
    capital,
    escape,
    ink,
    least_span,
    no_rows,
    seen,
    style,
    token_label,
    whiskers,
)
from .heatmaps import Map, Scale, draw, hatching_explained
from .labels import joint, model_name, text_at, words_of
from .protocols import Panel, Subtracted
from .recoveries import rows_of

MOST_MAPS = 16


def difference(
    result: Subtracted,
    path: str | os.PathLike | None = None,
    metric: str | None = None,
    rows: Any = "auto",
    **look: Unpack[Look],
) -> Figure:
    """What `result_a - result_b` is: bars with whiskers, or maps whose uncertain cells are hatched.

    Args:
        result: a difference of two results of activation patching.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        metric: whose difference is shown; default: the first.
        rows: which tokens maps show: "auto", of a long prompt those that matter, which is said; "all"; or positions.
        look: `ax` or `fig` to draw on, and `caption`, as in every plot.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: for a metric that it does not have, or a path that cannot be written, before drawing.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> from mlxtrace.plotting.subtraction import difference
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> one, other = (model.activation_patching(*prompts, component=c, progress=False) for c in ("mlp", "attn"))
        >>> difference(one - other).axes[0].get_ylabel()
        'difference (percentage points)'
    """
    sheet = Sheet(path, **look)
    panels = result.panels(metric)
    label, names = "difference (percentage points)", " less ".join(map(model_name, result.names))
    with style():
        bars = panels[0].column_name == "component"
        if bars:
            no_rows(rows)
        explained = (
            _bars(result, panels[0], label, sheet) if bars else _maps(result, panels, label, sheet, rows)
        )
        title = result.title if " less " in result.title else f"{names}: {result.title}"
        sheet.headline(title, [f"recovery: {names}", *explained])
    return sheet.finish()


def _bars(result: Subtracted, panel: Panel, label: str, sheet: Sheet) -> list[str]:
    n, layers = len(panel.columns), len(panel.rows)
    for i, (ax, component) in enumerate(
        zip(by_layer(sheet, panel.rows, n, y_label=label), panel.columns, strict=True)
    ):
        values = panel.values[:, i]
        ax.bar(range(layers), values, color=[seen(MORE if v >= 0 else LESS) for v in values], width=0.8)
        whiskers(ax, range(layers), values, None if panel.halves is None else panel.halves[:, i])
        ax.axhline(0, color=ink(), linewidth=0.8)
        least_span(ax, 1.0)
        ax.set_title(escape(capital(words_of(component))) if n > 1 else "")
    return [WHISKERS_MEAN] if len(result.ids) > 1 else []


def _named(result: Subtracted, row: int | str) -> str:
    label = text_at(row, lambda p: token_label(result.tokens[p]))
    return f"{row} {label}" if isinstance(row, str) else label


def _maps(result: Subtracted, panels: list[Panel], label: str, sheet: Sheet, asked: Any) -> list[str]:
    total, marked = len(panels), [len(panels[0].rows) - 1] if panels[0].row_name == "position" else []
    if total > MOST_MAPS:
        strength = [float(np.nan_to_num(np.abs(p.values)).max()) for p in panels]
        panels = [panels[i] for i in sorted(np.argsort(strength)[::-1][:MOST_MAPS])]
    maps = []
    for p in panels:
        names = [_named(result, i) if p.row_name == "position" else str(i) for i in p.rows]
        title = p.component if p.head is None else f"{p.component}, head {p.head}"
        columns = [str(c) for c in p.columns]
        maps.append(Map(p.values, names, columns, "resid", title if total > 1 else "", halves=p.halves))
    most = max(float(np.nan_to_num(np.abs(m.values)).max()) for m in maps)
    scale = Scale(-max(most, 1.0), max(most, 1.0), 0.0)  # a map of nothing must not look like a finding
    x_label, y_label = panels[0].column_name, "layer" if panels[0].row_name == "layer" else ""
    draw(maps, scale, label, x_label, y_label, sheet=sheet, rows=rows_of(panels, scale, marked, asked))
    cut = [f"the {MOST_MAPS} of {total} maps with the largest differences"] if total > MOST_MAPS else []
    spans = joint(panels[0].rows) if panels[0].row_name == "position" else []
    return [*cut, *spans, *hatching_explained(maps, scale, "difference")]
