"""Bars with hover, a panel for each kind, on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .frame import dress, rgb
from .html import plotly
from .texts import safe

HIGH = 260  # pixels of a panel
WHISKERS = "whiskers: 95 % intervals over the pairs"


class Bars(NamedTuple):
    """One panel: a bar for each label, from `start`, with the half-width of its interval where it has one."""

    title: str
    labels: list[str]
    values: np.ndarray
    halves: np.ndarray | None
    colour: Sequence[float]
    start: float = 0.0


def bar_figure(
    panels: Sequence[Bars],
    value: str,
    across: str,
    unit: str,
    title: str,
    caption: Sequence[str],
    form: str = ".1f",
    lines: Sequence[tuple[float, str]] = (),
    x_label: str = "",
) -> Any:
    """Panels beside each other, up to four, and below; `lines` are drawn across all, with their names."""
    down = -(-len(panels) // 4)
    columns = -(-len(panels) // down)
    figure = plotly().subplots.make_subplots(
        rows=down,
        cols=columns,
        shared_xaxes="all",
        shared_yaxes="all",
        horizontal_spacing=0.03,
        vertical_spacing=0.12 if down > 1 else 0.0,
        subplot_titles=[safe(one.title) for one in panels] if len(panels) > 1 else None,
    )
    for i, one in enumerate(panels):
        place = {"row": i // columns + 1, "col": i % columns + 1}
        figure.add_trace(_bars(one, value, across, unit, form), **place)
        figure.add_hline(one.start, line={"color": "black", "width": 1}, **place)
        for k, (height, name) in enumerate(lines):
            figure.add_hline(
                height,
                line={"color": "#222", "width": 1.2, "dash": ("dash", "dot")[k % 2]},
                name=safe(name),
                showlegend=not i,
                **place,
            )
    plain = {"automargin": True, "zeroline": False}
    figure.update_xaxes(
        **plain, type="category", showgrid=False, title_text=x_label or across, title_standoff=8
    )
    figure.update_yaxes(**plain, gridcolor="#e5e5e5", ticksuffix=unit.strip() if "%" in unit else "")
    figure.update_yaxes(title_text=value, title_standoff=12, col=1)
    figure.update_yaxes(exponentformat="e")
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"})
    said = [WHISKERS] if any(_known(one) for one in panels) else []
    return dress(figure, title, [*caption, *said], HIGH * down, len(panels) > 1 or bool(lines))


def _known(one: Bars) -> bool:
    return one.halves is not None and not np.isnan(one.halves).all()


def _bars(one: Bars, value: str, across: str, unit: str, form: str) -> Any:
    texts = []
    halves = one.halves if one.halves is not None else np.full(len(one.values), np.nan)
    for label, height, half in zip(one.labels, one.values, halves, strict=True):
        said = f"{across} <b>{label}</b><br>{value} <b>{height:{form}}{unit}</b>"
        if not np.isnan(half):
            said += f"<br>{height - half:{form}} to {height + half:{form}}{unit} (95 %)"
        texts.append(said)
    error = {"type": "data", "array": np.nan_to_num(halves), "color": "#333", "thickness": 1, "width": 2}
    return plotly().graph_objects.Bar(
        x=one.labels,
        y=one.values - one.start,
        base=one.start,
        error_y=error if _known(one) else None,
        marker={"color": rgb(one.colour)},
        hovertext=texts,
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
        name=safe(one.title),
    )
