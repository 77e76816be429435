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
BETWEEN = 34  # pixels between maps above each other
TALLEST = 1080
BAR_LENGTH = 280  # pixels
STEPS = 48  # colours of a scale
MARKED = 5000  # uncertain cells that are marked at most
BAR, NUMBERS = 13, 62  # pixels of a colour bar, and of the numbers beside it
UNCERTAIN = "/ marks colours whose 95 % interval covers no effect"


class Hover(NamedTuple):
    """What hovering says: the names of rows, columns and values, how numbers are written, and their unit.

    own: the name of the values of maps with a scale of their own.
    """

    row: str
    column: str
    value: str
    form: str = ".3f"
    unit: str = ""
    own: str = ""

    def named(self, one: Map) -> str:
        """What a map's values are called."""
        return self.value if one.scale is None else self.own


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
    """Maps in a grid with shared axes, on one scale but for those that have their own."""
    down = -(-len(maps) // ACROSS)
    across = -(-len(maps) // down)
    body = float(np.clip(ROW * len(maps[0].rows), 120, TALLEST / down))
    whole = body * down + BETWEEN * (down - 1)
    figure = plotly().subplots.make_subplots(
        rows=down,
        cols=across,
        shared_xaxes="all",
        shared_yaxes="all",
        horizontal_spacing=0.03,
        vertical_spacing=BETWEEN / whole if down > 1 else 0.0,
        subplot_titles=[one.title for one in maps] if len(maps) > 1 else None,
    )
    axes = _axes_of(maps, scale)
    for i, one in enumerate(maps):
        place = {"row": i // across + 1, "col": i % across + 1}
        for trace in _traces(one, scale, hover, axes):
            figure.add_trace(trace, **place)
    _sides(figure, maps[0], y_label, upwards)
    for i, one in enumerate(maps):
        if i + across >= len(maps):
            place = {"row": i // across + 1, "col": i % across + 1}
            figure.update_xaxes(title_text=one.x_label or x_label, showticklabels=True, **place)
    figure.update_xaxes(nticks=max(4, 28 // across))
    right = _bars(figure, maps, axes, hover, whole)
    said = [*caption, *_ground(figure, maps, scale)]
    return dress(figure, title, said, whole, len(maps) > 1, right=right)


def slides(
    maps: Sequence[Map],
    scale: Scale,
    hover: Hover,
    title: str,
    caption: Sequence[str],
    x_label: str = "",
    y_label: str = "",
    upwards: bool = False,
    first: int | None = None,
) -> Any:
    """One map at a time, chosen with a slider by its title; at first the one with the strongest cell."""
    figure = plotly().graph_objects.Figure()
    axes, owners = _axes_of(maps, scale), []
    if first is None:
        first = int(np.argmax([np.nan_to_num(np.abs(one.values - scale.white)).max() for one in maps]))
    for i, one in enumerate(maps):
        for trace in _traces(one, scale, hover, axes):
            trace.visible = i == first
            figure.add_trace(trace)
            owners.append(i)
    steps = [
        {"method": "restyle", "label": one.title, "args": [{"visible": [owner == i for owner in owners]}]}
        for i, one in enumerate(maps)
    ]
    _sides(figure, maps[0], y_label, upwards)
    figure.update_xaxes(title_text=x_label)
    body = float(np.clip(ROW * len(maps[0].rows), 120, TALLEST))
    right = _bars(figure, maps, axes, hover, body)
    figure.update_layout(
        sliders=[{"active": first, "steps": steps, "pad": {"t": 46}, "currentvalue": {"prefix": "shown: "}}]
    )
    return dress(figure, title, [*caption, *_ground(figure, maps, scale)], body, below=150, right=right)


def _axes_of(maps: Sequence[Map], scale: Scale) -> dict[tuple[str, Scale], str]:
    """The colour axis of each family and scale."""
    keys = dict.fromkeys((one.family, one.scale or scale) for one in maps)
    return {key: f"coloraxis{i + 1 if i else ''}" for i, key in enumerate(keys)}


def _traces(one: Map, scale: Scale, hover: Hover, axes: dict[tuple[str, Scale], str]) -> list[Any]:
    """The map, and the marks of its uncertain cells."""
    go = plotly().graph_objects
    said = f"{hover.row} <b>%{{y}}</b><br>{hover.column} <b>%{{x}}</b>"
    said += f"<br>{hover.named(one)} <b>%{{z:{hover.form}}}{hover.unit}</b>"
    halves = _halves(one, hover)
    if halves is not None:
        said += (
            "<br>%{customdata}" if halves.dtype == object else f"<br>± %{{customdata:{hover.form}}} (95 %)"
        )
    gap = 0 if max(one.values.shape) > 40 or np.isnan(one.values).any() else 0.5
    heatmap = go.Heatmap(
        z=np.ascontiguousarray(one.values, np.float32),
        x=one.columns,
        y=one.rows,
        coloraxis=axes[one.family, one.scale or scale],
        customdata=halves,
        hoverongaps=False,
        hovertemplate=said + f"<extra>{one.title}</extra>",
        xgap=gap,
        ygap=gap,
    )
    rows, columns = np.nonzero(hatched(one, one.scale or scale))
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
    if np.isfinite(one.halves[~np.isnan(one.values)]).all():
        return np.ascontiguousarray(one.halves, np.float32)
    texts = [
        "no interval" if np.isnan(half) else f"± {half:{hover.form}} (95 %)" for half in one.halves.ravel()
    ]
    return np.array(texts, object).reshape(one.halves.shape)


def _sides(figure: Any, one: Map, y_label: str, upwards: bool) -> None:
    """Categories in the order of the map, the first on top unless `upwards`."""
    plain = {"showgrid": False, "zeroline": False, "automargin": True, "type": "category", "ticks": ""}
    plain |= {"showline": True, "mirror": True, "linecolor": "#999", "linewidth": 1}
    figure.update_xaxes(**plain, categoryorder="array", categoryarray=one.columns, title_standoff=8)
    side = {} if upwards else {"autorange": "reversed"}
    figure.update_yaxes(**plain, **side, categoryorder="array", categoryarray=one.rows, tickfont_size=11)
    figure.update_yaxes(title_standoff=12)
    figure.layout.yaxis.title.text = y_label


def _ground(figure: Any, maps: Sequence[Map], scale: Scale) -> list[str]:
    """Grey where there is no value, as in the printed maps; and what is said of marks."""
    if any(np.isnan(one.values).any() for one in maps):
        figure.update_layout(plot_bgcolor="#dedede")
    uncertain = [int(hatched(one, one.scale or scale).sum()) for one in maps]
    return [UNCERTAIN] if any(0 < n <= MARKED for n in uncertain) else []


def _bars(
    figure: Any, maps: Sequence[Map], axes: dict[tuple[str, Scale], str], hover: Hover, length: float
) -> int:
    """A colour bar for each family beside each other, with numbers at the last of a scale; the pixels they take."""
    keys, at = list(axes), 8
    names = {(one.family, one.scale): hover.named(one) for one in maps}
    for key, following in zip(keys, [*keys[1:], None], strict=True):
        (family, scale), last = key, following is None or following[1] != key[1]
        name = names.get((family, scale)) or names.get((family, None), "")
        bar = {"thickness": BAR - 2, "outlinewidth": 0, "x": 1, "xanchor": "left", "xpad": at}
        bar |= {"lenmode": "pixels", "len": min(length, BAR_LENGTH), "y": 1, "yanchor": "top", "ypad": 0}
        bar |= {"showticklabels": last, "ticksuffix": hover.unit.strip() if "%" in hover.unit else ""}
        bar |= {"exponentformat": "e"}
        bar |= {"title": {"text": name if last else "", "side": "right"}}
        colours = {"cmin": scale.low, "cmax": scale.high, "colorscale": colour_scale(scale, family)}
        figure.update_layout({axes[key]: {**colours, "colorbar": bar}})
        at += BAR + (NUMBERS if last else 0)
    return at
