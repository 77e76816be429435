"""Maps with hover: side by side with shared axes, or one at a time with a slider, on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..plotting.heatmaps import Map, Scale, hatched
from .frame import dress, rgb
from .html import plotly

ACROSS = 4  # maps beside each other
ROW = 17  # pixels of a row
TALLEST = 900
STEPS = 48  # colours of a scale
MARKED = 5000  # uncertain cells that are marked at most
UNCERTAIN = "/ marks colours whose 95 % interval covers no effect"


class Hover(NamedTuple):
    """What hovering says: the names of rows, columns and values, how numbers are written, and their unit."""

    row: str
    column: str
    value: str
    form: str = ".3f"
    unit: str = ""


def colour_scale(scale: Scale, family: str) -> list[list]:
    """The colours that the printed figures have, from the scale's low to its high end."""
    colours = scale.colours(family)
    span = max(scale.high - scale.low, 1e-12)
    white = min(max((scale.white - scale.low) / span, 0.0), 1.0)
    return [[float(at), rgb(colours(float(at)))] for at in sorted({*np.linspace(0, 1, STEPS), white})]


def facets(
    maps: Sequence[Map],
    scale: Scale,
    hover: Hover,
    title: str,
    caption: Sequence[str],
    x_label: str = "",
    y_label: str = "",
    upwards: bool = False,
) -> Any:
    """Maps in a grid with shared axes and one scale."""
    down = -(-len(maps) // ACROSS)
    across = -(-len(maps) // down)
    body = float(np.clip(ROW * len(maps[0].rows), 120, TALLEST / down))
    figure = plotly("subplots").make_subplots(
        rows=down,
        cols=across,
        shared_xaxes="all",
        shared_yaxes="all",
        horizontal_spacing=0.03,
        vertical_spacing=min(0.9 / max(1, down - 1), 34 / (body * down + 34 * (down - 1))),
        subplot_titles=[one.title for one in maps] if len(maps) > 1 else None,
    )
    families = list(dict.fromkeys(one.family for one in maps))
    for i, one in enumerate(maps):
        place = {"row": i // across + 1, "col": i % across + 1}
        for trace in _traces(one, scale, hover, families.index(one.family)):
            figure.add_trace(trace, **place)
    _axes(figure, maps[0], y_label, upwards)
    for i, one in enumerate(maps):
        if i + across >= len(maps):
            place = {"row": i // across + 1, "col": i % across + 1}
            figure.update_xaxes(title_text=one.x_label or x_label, showticklabels=True, **place)
    _bars(figure, families, scale, hover)
    marks = [UNCERTAIN] if any(hatched(one, scale).any() for one in maps) else []
    right = 80 + 14 * len(families)
    return dress(figure, title, [*caption, *marks], body * down + 34 * (down - 1), len(maps) > 1, right=right)


def slides(
    maps: Sequence[Map],
    names: Sequence[str],
    scale: Scale,
    hover: Hover,
    title: str,
    caption: Sequence[str],
    x_label: str = "",
    y_label: str = "",
    upwards: bool = False,
) -> Any:
    """One map at a time, chosen with a slider; the one with the strongest cell first."""
    figure = plotly().Figure()
    families = list(dict.fromkeys(one.family for one in maps))
    strength = [float(np.nan_to_num(np.abs(one.values - scale.white)).max()) for one in maps]
    first, owners = int(np.argmax(strength)), []
    for i, one in enumerate(maps):
        for trace in _traces(one, scale, hover, families.index(one.family), names[i]):
            trace.visible = i == first
            figure.add_trace(trace)
            owners.append(i)
    steps = [
        {"method": "restyle", "label": name, "args": [{"visible": [owner == i for owner in owners]}]}
        for i, name in enumerate(names)
    ]
    _axes(figure, maps[0], y_label, upwards)
    figure.update_xaxes(title_text=x_label)
    _bars(figure, families, scale, hover)
    figure.update_layout(
        sliders=[{"active": first, "steps": steps, "pad": {"t": 46}, "currentvalue": {"prefix": "shown: "}}]
    )
    marks = [UNCERTAIN] if any(hatched(one, scale).any() for one in maps) else []
    body = float(np.clip(ROW * len(maps[0].rows), 120, TALLEST))
    return dress(figure, title, [*caption, *marks], body, below=150, right=80 + 14 * len(families))


def _traces(one: Map, scale: Scale, hover: Hover, axis: int, name: str = "") -> list[Any]:
    """The map, and the marks of its uncertain cells."""
    go = plotly()
    said = f"{hover.row} <b>%{{y}}</b><br>{hover.column} <b>%{{x}}</b>"
    said += f"<br>{hover.value} <b>%{{z:{hover.form}}}{hover.unit}</b>"
    halves = _halves(one, hover)
    if halves is not None:
        said += (
            "<br>%{customdata}" if halves.dtype == object else f"<br>± %{{customdata:{hover.form}}} (95 %)"
        )
    title = name or one.title
    heatmap = go.Heatmap(
        z=np.ascontiguousarray(one.values, np.float32),
        x=one.columns,
        y=one.rows,
        coloraxis=f"coloraxis{axis + 1 if axis else ''}",
        customdata=halves,
        hoverongaps=False,
        hovertemplate=said + (f"<extra>{title}</extra>" if title else "<extra></extra>"),
        xgap=0.5 if one.values.shape[1] < 100 else 0,
        ygap=0.5,
    )
    rows, columns = np.nonzero(hatched(one, scale))
    if not 0 < len(rows) <= MARKED:
        return [heatmap]
    marks = go.Scatter(
        x=[one.columns[j] for j in columns],
        y=[one.rows[i] for i in rows],
        mode="markers",
        marker={"symbol": "line-ne-open", "size": 7, "color": "#777", "line": {"width": 1}},
        hoverinfo="skip",
        showlegend=False,
    )
    return [heatmap, marks]


def _halves(one: Map, hover: Hover) -> np.ndarray | None:
    """Half-widths for hovering: numbers, or where some cells have none, texts."""
    if one.halves is None or np.isnan(one.halves).all():
        return None
    if np.isfinite(one.halves).all():
        return np.ascontiguousarray(one.halves, np.float32)
    texts = [
        "no interval" if np.isnan(half) else f"± {half:{hover.form}} (95 %)" for half in one.halves.ravel()
    ]
    return np.array(texts, object).reshape(one.halves.shape)


def _axes(figure: Any, one: Map, y_label: str, upwards: bool) -> None:
    """Categories in the order of the map, the first on top unless `upwards`."""
    plain = {"showgrid": False, "zeroline": False, "automargin": True, "type": "category", "ticks": ""}
    plain |= {"showline": True, "mirror": True, "linecolor": "#999", "linewidth": 1}
    figure.update_xaxes(**plain, categoryorder="array", categoryarray=one.columns, title_standoff=8)
    side = {} if upwards else {"autorange": "reversed"}
    figure.update_yaxes(**plain, **side, categoryorder="array", categoryarray=one.rows, tickfont_size=11)
    figure.layout.yaxis.title.text = y_label


def _bars(figure: Any, families: Sequence[str], scale: Scale, hover: Hover) -> None:
    """A colour bar for each family, beside each other, with numbers at the last."""
    for i, family in enumerate(families):
        last = i == len(families) - 1
        bar = {"thickness": 11, "outlinewidth": 0, "x": 1, "xanchor": "left", "xpad": 8 + 13 * i}
        bar |= {"showticklabels": last, "ticksuffix": hover.unit.replace(" %", "%")}
        bar |= {"title": {"text": hover.value if last else "", "side": "right"}}
        axis = {"cmin": scale.low, "cmax": scale.high, "colorscale": colour_scale(scale, family)}
        figure.update_layout({f"coloraxis{i + 1 if i else ''}": {**axis, "colorbar": bar}})
