"""Heatmaps in a grid, with shared axes and one scale on which white means that nothing happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure

from .certainty import HATCHED, hatch, uncertain
from .colours import shades
from .kit import escape, ticks

FAINT = 0.05  # of the scale: what is nearer to no effect looks white


@dataclass(frozen=True)
class Map:
    """One heatmap: `values` `[rows, columns]`, in the colours of a family of components; NaN is grey.

    halves: half-widths of the 95 % intervals, of the same shape; colours are hatched where these cover no effect.
    """

    values: np.ndarray
    rows: list[str]
    columns: list[str]
    family: str
    title: str = ""
    x_label: str = ""
    halves: np.ndarray | None = None
    scale: Any = None  # a `Scale` of its own, instead of the figure's


class Scale(NamedTuple):
    """What the colours of all maps of a figure mean."""

    low: float
    high: float
    white: float  # the value that means nothing happened
    flip: bool = False  # the component's own colour is below white

    def colours(self, family: str) -> Colormap:
        """White at `white`, the family's colour on one side and its opposite on the other, equally steep."""
        steepest = max(self.high - self.white, self.white - self.low)
        steps = np.linspace(self.low - self.white, self.high - self.white, 256) / steepest
        return ListedColormap(shades(family, steps, self.flip))


def draw(
    maps: list[Map],
    scale: Scale,
    label: str,
    x_label: str = "",
    y_label: str = "",
    upright: bool = False,
    own_label: str = "",
) -> Figure:
    """The maps in a grid with shared axes and one scale; a colour bar for each colour.

    own_label: of the bars of maps that have a scale of their own, which stand behind the others.
    """
    grid_rows = -(-len(maps) // 4)
    columns = -(-len(maps) // grid_rows)
    n_rows, n_columns = maps[0].values.shape
    width = np.clip(0.2 * n_columns, 2.2, 6.0 if len(maps) == 1 else 3.6) + 0.5
    height = np.clip((0.2 if n_rows <= 30 else 0.16) * n_rows, 1.4, 8.0) + (1.1 if upright else 0.4)
    names = 0.075 * max(map(len, maps[0].rows)) + 0.4
    fig = Figure(figsize=(names + width * columns + 0.5, height * grid_rows + 0.8), layout="constrained")
    axes = fig.subplots(grid_rows, columns, sharex=True, sharey=True, squeeze=False)
    many_colours = len({m.family for m in maps}) > 1
    every_row = upright or y_label != "layer"
    for ax, one in zip(axes.flat, maps, strict=False):
        mesh = _mesh(ax, one, one.scale or scale)
        ticks(ax.yaxis, one.rows, most=200 if every_row else int(height * 6), offset=0.5)
        ticks(ax.xaxis, one.columns, most=200 if upright else int(width * 5), offset=0.5)
        ax.tick_params(axis="x", rotation=90 if upright else 0)
        ax.tick_params(axis="y", labelsize=8 if n_rows <= 30 else 6.5)
        if one.scale is not None:
            _colour_bar(fig, mesh, ax, own_label, one.scale, one.values)
            continue
        shared = mesh
        if many_colours:
            _colour_bar(fig, mesh, ax, label if one is maps[-1] else "", scale, one.values)
    axes[0, 0].invert_yaxis()
    for ax in list(axes.flat)[len(maps) :]:
        ax.remove()
    if not many_colours:
        inside = [m for m in maps if m.scale is None]
        values = np.stack([m.values for m in inside])
        _colour_bar(fig, shared, list(axes.flat)[: len(inside)], label, scale, values)
    for i, ax in enumerate(axes.flat):
        if i < len(maps) and i + columns >= len(maps):
            ax.set_xlabel(escape(maps[i].x_label or x_label))
            ax.tick_params(axis="x", labelbottom=True)
    for ax in axes[:, 0]:
        ax.set_ylabel(escape(y_label))
    return fig


def _mesh(ax: Any, one: Map, scale: Scale) -> Any:
    ax.set_title(escape(one.title))
    ax.set_facecolor("0.85")  # where there is no value
    mesh = ax.pcolormesh(
        one.values,
        cmap=scale.colours(one.family),
        norm=Normalize(scale.low, scale.high),
        edgecolors="face",
        linewidth=0.2,
    )
    hatch(ax, hatched(one, scale))
    return mesh


def hatched(one: Map, scale: Scale) -> np.ndarray:
    """Which cells look like an effect that their interval does not tell from none; white ones look like none."""
    coloured = np.abs(one.values - scale.white) > FAINT * (scale.high - scale.low)
    return coloured & uncertain(one.values, one.halves, scale.white)


def hatching_explained(maps: list[Map], scale: Scale, what: str = "effect") -> list[str]:
    """The line of a caption that says what hatching means, where there is any."""
    return [f"{HATCHED} no {what}"] if any(hatched(one, one.scale or scale).any() for one in maps) else []


def _colour_bar(fig: Figure, mesh: Any, ax: Any, label: str, scale: Scale, values: np.ndarray) -> None:
    beyond = (bool((values < scale.low - 1e-9).any()), bool((values > scale.high + 1e-9).any()))
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(beyond, "neither")
    aspect = fig.get_figheight() / (0.16 if isinstance(ax, list) else 0.2)
    bar = fig.colorbar(mesh, ax=ax, extend=extend, pad=0.02, aspect=aspect, label=escape(label))
    bar.outline.set_visible(False)
