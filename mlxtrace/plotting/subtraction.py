"""One result less another, in percentage points: bars by layer, or maps that are white where there is no difference."""

from __future__ import annotations

import os

import numpy as np
from matplotlib.figure import Figure

from .heatmaps import Map, Scale, draw, hatching_explained
from .kit import (
    WHISKERS_MEAN,
    checked,
    escape,
    finished,
    headline,
    plain_axes,
    style,
    ticks,
    token_label,
    whiskers,
)
from .protocols import Panel, Subtracted

MORE, LESS = "#5e3c99", "#e08214"  # purple and orange, as the maps are


def difference(
    result: Subtracted, path: str | os.PathLike | None = None, metric: str | None = None
) -> Figure:
    """What `result_a - result_b` is: bars with whiskers, or maps whose uncertain cells are hatched.

    Args:
        result: a difference of two results of activation patching.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        metric: whose difference is shown; default: the first.

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
    path = checked(path)
    panels = result.panels(metric)
    label, names = "difference (percentage points)", f"{result.names[0]} less {result.names[1]}"
    with style():
        bars = panels[0].column_name == "component"
        fig, explained = _bars(result, panels[0], label) if bars else _maps(result, panels, label)
        title = result.title if " less " in result.title else f"{names}: {result.title}"
        headline(fig, title, [f"recovery: {names}", *explained])
    return finished(fig, path)


def _bars(result: Subtracted, panel: Panel, label: str) -> tuple[Figure, list[str]]:
    n, layers = len(panel.columns), len(panel.rows)
    width = float(np.clip(0.8 + 0.2 * layers, 3.2 if n > 1 else 5, 12))
    fig = Figure(figsize=(width * n, 3.4), layout="constrained")
    axes = fig.subplots(1, n, sharey=True, squeeze=False)[0]
    for i, (ax, component) in enumerate(zip(axes, panel.columns, strict=True)):
        values = panel.values[:, i]
        ax.bar(range(layers), values, color=[MORE if v >= 0 else LESS for v in values], width=0.8)
        whiskers(ax, range(layers), values, None if panel.halves is None else panel.halves[:, i])
        ax.axhline(0, color="black", linewidth=0.8)
        plain_axes(ax)
        ticks(ax.xaxis, [str(x) for x in panel.rows], most=int(width * 4))
        ax.set_xlabel("layer")
        ax.set_title(escape(component) if n > 1 else "")
    axes[0].set_ylabel(escape(label))
    return fig, [WHISKERS_MEAN] if len(result.ids) > 1 else []


def _maps(result: Subtracted, panels: list[Panel], label: str) -> tuple[Figure, list[str]]:
    maps = []
    for p in panels:
        rows = [token_label(result.tokens[i]) if p.row_name == "position" else str(i) for i in p.rows]
        title = p.component if p.head is None else f"{p.component}, head {p.head}"
        columns = [str(c) for c in p.columns]
        maps.append(Map(p.values, rows, columns, "resid", title if len(panels) > 1 else "", halves=p.halves))
    most = max(float(np.nan_to_num(np.abs(m.values)).max()) for m in maps)
    scale = Scale(-max(most, 1.0), max(most, 1.0), 0.0)  # a map of nothing must not look like a finding
    across, down = panels[0].column_name, panels[0].row_name
    fig = draw(maps, scale, label, across, "layer" if down == "layer" else "")
    return fig, hatching_explained(maps, scale, "difference")
