"""Heatmaps in a grid, with shared axes and one scale on which white means that nothing happened."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.patches import Rectangle
from matplotlib.ticker import ScalarFormatter

from .certainty import HATCHED, hatch, uncertain
from .colours import ink, shades
from .kit import escape
from .room import Size, fitted, label_room, pooled, size_of, tick
from .rows import FAINT, MOST, Cut, Rows, matter
from .sheet import Look, Sheet

__all__ = [
    "FAINT",
    "MOST",
    "Look",
    "Map",
    "Rows",
    "Scale",
    "Sheet",
    "draw",
    "hatched",
    "hatching_explained",
    "matter",
]
LITTLE = 0.02  # of the scale: what lies beyond it by less is not worth a word
STEPS = 512  # colours of a scale
FEW = 8  # cuts that have a row of their own; more are lines
SMALL = 6.5  # points of letters inside a map
MOST_DRAWN = 10_000  # cells that are drawn one by one


@dataclass(frozen=True)
class Map:
    """One heatmap: `values` `[rows, columns]`, in the colours of a family of components; NaN is grey.

    halves: half-widths of the 95 % intervals, of the same shape; colours are hatched where these cover no effect.
    first: indices of rows whose labels are kept where there is no room for all.
    lines: before which rows, and which columns, others are left out.
    inside: what writes into the cells, told their width and height in inches.
    """

    values: np.ndarray
    rows: list[str]
    columns: list[str]
    family: str
    title: str = ""
    x_label: str = ""
    halves: np.ndarray | None = None
    scale: Any = None  # a `Scale` of its own, instead of the figure's
    first: Collection[int] = ()
    lines: tuple[Collection[int], Collection[int]] = ((), ())
    inside: Callable[[Any, float, float], None] | None = None


class Scale(NamedTuple):
    """What the colours of all maps of a figure mean."""

    low: float
    high: float
    white: float  # the value that means nothing happened
    flip: bool = False  # the component's own colour is below white

    def colours(self, family: str) -> Colormap:
        """White at `white`, the family's colour on one side and its opposite on the other, equally steep."""
        steepest = max(self.high - self.white, self.white - self.low)
        steps = np.linspace(self.low - self.white, self.high - self.white, STEPS) / steepest
        place = (self.white - self.low) / (self.high - self.low)
        steps[min(int(place * STEPS), STEPS - 1)] = (
            0.0  # where no effect is drawn, which else is a shade beside
        )
        return ListedColormap(shades(family, steps, self.flip))


def draw(
    maps: list[Map],
    scale: Scale,
    label: str,
    x_label: str = "",
    y_label: str = "",
    *,
    upright: bool = False,
    own_label: str = "",
    sheet: Sheet | None = None,
    rows: Rows | None = None,
    upwards: bool = False,
    cell: float = 0.2,
    square: bool = False,
) -> Any:
    """The maps in a grid with shared axes and one scale; a colour bar for each colour.

    upright: whether the labels of columns stand on end.
    own_label: of the bars of maps that have a scale of their own, which stand behind the others.
    sheet: what is drawn on; default: a figure of its own. It is told what its caption has to say.
    rows: which rows of each map are shown; default: all.
    upwards: whether the first row is at the bottom.
    cell: inches that a column would like to have.
    square: whether each map is as high as it is wide.
    """
    sheet = Sheet() if sheet is None else sheet
    maps, gaps = _cropped(maps, rows)
    names = [escape(name) for name in maps[0].columns]
    size = _sized(sheet, maps, names, upright, cell=cell, square=square)
    axes = sheet.axes(size.rows, size.columns, sharex=True, sharey=True)
    shown = list(axes.flat)[: len(maps)]
    for ax in list(axes.flat)[len(maps) :]:
        ax.remove()
    meshes = []
    for i, (ax, one) in enumerate(zip(shown, maps, strict=True)):
        meshes.append(_mesh(ax, one, one.scale or scale, size, gaps))
        _label(ax, one, names, size, upright, gaps)
        ax.set_ylabel(escape("" if i % size.columns else y_label))
        if i + size.columns >= len(maps):
            ax.set_xlabel(escape(one.x_label or x_label))
            ax.tick_params(axis="x", labelbottom=True)
    if not upwards:
        shown[0].invert_yaxis()
    _colour_bars(sheet, shown, meshes, maps, scale, (label, own_label), size)
    sheet.said += [*([] if rows is None else rows.said), *_clipped(maps, scale), *_pooling(maps[0], size)]
    return sheet.whole


def _cropped(maps: list[Map], rows: Rows | None) -> tuple[list[Map], dict[int, Cut]]:
    """The maps with the rows that are shown, and an empty one for each of a few cuts: the cuts by their rows."""
    if rows is None or not rows.cuts:
        return maps, {}
    at: list[int | Cut] = list(rows.shown)
    maps = [replace(one, rows=_numbered(one.rows, rows)) for one in maps]
    if len(rows.cuts) > FEW:
        lines = [cut.at for cut in rows.cuts if 0 < cut.at < len(at)]
        return [replace(_with_rows(one, at), lines=(lines, one.lines[1])) for one in maps], {}
    for cut in reversed(rows.cuts):
        at.insert(cut.at, cut)
    gaps = {i: row for i, row in enumerate(at) if isinstance(row, Cut)}
    return [_with_rows(one, at) for one in maps], gaps


def _numbered(names: list[str], rows: Rows) -> list[str]:
    """The names with where they stand, which a map that is cut does not show."""
    number = dict(zip(rows.shown, map(str, rows.labels), strict=True))
    return [
        name if name.split(" ")[0] == number.get(i, "") else f"{number.get(i, '')} {name}"
        for i, name in enumerate(names)
    ]


def _with_rows(one: Map, at: list[int | Cut]) -> Map:
    index = np.array([-1 if isinstance(row, Cut) else row for row in at])
    names = [f"⋮ {row.span}" if isinstance(row, Cut) else one.rows[row] for row in at]
    values, halves = (
        None if x is None else np.where(index[:, None] < 0, np.nan, x[index])
        for x in (one.values, one.halves)
    )
    assert values is not None
    first = [i for i, row in enumerate(index) if row in one.first]
    return replace(one, values=values, halves=halves, rows=names, first=first)


def _sized(sheet: Sheet, maps: list[Map], names: list[str], upright: bool, **shape: Any) -> Size:
    """As large as the maps would be, and then as large as what they are drawn on is."""
    several = len({m.family for m in maps}) > 1
    known: dict[str, Any] = {
        "beside": label_room(maps[0].rows) + 0.3,
        "below": label_room(names) + 0.2 if upright else 0.4,
        "bars": len(maps) if several else 1 + sum(m.scale is not None for m in maps),
        **shape,
    }
    size = size_of(len(maps), *maps[0].values.shape, **known)
    sheet.open(*size.figure)
    if sheet.given:
        size = size_of(len(maps), *maps[0].values.shape, **known, within=sheet.inches)
    return size


def _mesh(ax: Any, one: Map, scale: Scale, size: Size, gaps: dict[int, Cut]) -> Any:
    """The cells: as they are, or as an image where they are very many."""
    ax.set_title("\n".join(fitted(escape(one.title), size.width + 0.3, 9, 2)))
    ax.set_facecolor("0.85")  # where there is no value
    by, (n_rows, n_columns) = size.pool(*one.values.shape), one.values.shape
    values = one.values if by == (1, 1) else pooled(one.values, by, scale.white)
    looks: Any = {"cmap": scale.colours(one.family), "norm": Normalize(scale.low, scale.high)}
    if values.size > MOST_DRAWN:
        ends = (0, values.shape[1] * by[1], 0, values.shape[0] * by[0])
        mesh = ax.imshow(values, extent=ends, origin="lower", aspect="auto", interpolation="nearest", **looks)
        ax.set(xlim=(0, n_columns), ylim=(0, n_rows))
    else:
        mesh = ax.pcolormesh(values, edgecolors="face", linewidth=0.2, **looks)
        hatch(ax, hatched(one, scale))
    for lines, across, end in zip(one.lines, (ax.hlines, ax.vlines), (n_columns, n_rows), strict=True):
        if lines:
            across(list(lines), 0, end, color=ink(0.5), linewidth=0.6, linestyle=":", zorder=1.6)
    for row, cut in gaps.items():
        _gap(ax, row, n_columns, cut.words if size.holds(cut.words, n_rows) else "")
    if one.inside is not None:
        one.inside(ax, size.width / n_columns, size.height / n_rows)
    return mesh


def _gap(ax: Any, row: int, width: int, words: str) -> None:
    """The place of rows that are left out: the ground, between two dotted lines, with what they hold."""
    ax.add_patch(Rectangle((0, row), width, 1, color=ink(0), linewidth=0, zorder=1.5))
    ax.hlines([row, row + 1], 0, width, color=ink(0.5), linewidth=0.6, linestyle=":", zorder=1.6)
    ax.text(width / 2, row + 0.5, words, ha="center", va="center", fontsize=SMALL, color=ink(0.6), zorder=1.7)


def _label(ax: Any, one: Map, names: list[str], size: Size, upright: bool, gaps: dict[int, Cut]) -> None:
    n_rows, n_columns = one.values.shape
    places = (np.arange(n_rows) + 0.5, np.arange(n_columns) + 0.5)
    letters = (size.letters(n_rows), size.letters(n_columns, across=True) if upright else None)
    tick(ax.yaxis, places[0], [escape(x) for x in one.rows], first=[*gaps, *one.first], size=letters[0])
    tick(ax.xaxis, places[1], names, size=letters[1], upright=upright)


# ---- what colours mean


def hatched(one: Map, scale: Scale) -> np.ndarray:
    """Which cells look like an effect that their interval does not tell from none; white ones look like none."""
    coloured = np.abs(one.values - scale.white) > FAINT * (scale.high - scale.low)
    return coloured & uncertain(one.values, one.halves, scale.white)


def hatching_explained(maps: list[Map], scale: Scale, what: str = "effect") -> list[str]:
    """The line of a caption that says what hatching means, where there is any."""
    return [f"{HATCHED} no {what}"] if any(hatched(one, one.scale or scale).any() for one in maps) else []


def _clipped(maps: list[Map], scale: Scale) -> list[str]:
    """The line of a caption that says what lies beyond the colours, which end in an arrow there, if it is far."""
    known = np.concatenate([one.values.ravel() for one in maps if one.scale is None])
    beyond = _beyond(known, scale, LITTLE * (scale.high - scale.low))
    if not any(beyond):
        return []
    reach = (f"down to {np.nanmin(known):.3g}", f"up to {np.nanmax(known):.3g}")
    ends = (f"{scale.low:.3g}", f"{scale.high:.3g}")
    stop, go = (" and ".join(x for x, b in zip(pair, beyond, strict=True) if b) for pair in (ends, reach))
    return [f"the colours end at {stop}; values go {go}"]


def _beyond(values: np.ndarray, scale: Scale, by: float = 1e-9) -> tuple[bool, bool]:
    return bool((values < scale.low - by).any()), bool((values > scale.high + by).any())


def _pooling(one: Map, size: Size) -> list[str]:
    by = size.pool(*one.values.shape)
    return [] if by == (1, 1) else [f"each spot is the strongest of {by[0]} x {by[1]} cells"]


def _colour_bars(
    sheet: Sheet, axes: list, meshes: list, maps: list[Map], scale: Scale, labels: tuple[str, str], size: Size
) -> None:
    """One for all maps that share the scale, or one for each colour; one for each map that has its own scale."""
    label, own_label = ("\n".join(fitted(escape(x), 0.9 * size.high, 9, 4)) for x in labels)
    many_colours = len({m.family for m in maps}) > 1
    shared = [i for i, one in enumerate(maps) if one.scale is None]
    for ax, mesh, one in zip(axes, meshes, maps, strict=True):
        if one.scale is not None:
            _colour_bar(sheet, mesh, ax, own_label, one.scale, one.values)
        elif many_colours:
            _colour_bar(sheet, mesh, ax, label if one is maps[shared[-1]] else "", scale, one.values)
    if not many_colours and shared:
        values = np.stack([maps[i].values for i in shared])
        _colour_bar(sheet, meshes[shared[-1]], [axes[i] for i in shared], label, scale, values)


def _colour_bar(sheet: Sheet, mesh: Any, ax: Any, label: str, scale: Scale, values: np.ndarray) -> None:
    height = sheet.inches[1]
    extend = ("neither", "max", "min", "both")[2 * _beyond(values, scale)[0] + _beyond(values, scale)[1]]
    where = ax if isinstance(ax, list) and len(ax) > 1 else ax[0] if isinstance(ax, list) else ax
    aspect = height / (0.16 if isinstance(ax, list) else 0.2)
    bar = sheet.fig.colorbar(
        mesh, ax=where, extend=extend, pad=0.02, aspect=aspect, label=label, format=Plain()
    )
    bar.outline.set_visible(False)


class Plain(ScalarFormatter):
    """Numbers along a colour bar, of which none is -0."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        text = super().__call__(x, pos)
        return text if re.search("[1-9]", text) else re.sub("[-\u2212]", "", text)
