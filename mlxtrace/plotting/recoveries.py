"""Recoveries of activation patching: bars by layer, or maps of tokens, layers and heads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
from matplotlib.figure import Figure

from ..errors import InputError
from ..metric_table import METRICS
from .heatmaps import MOST, Look, Map, Rows, Scale, Sheet, draw, hatching_explained, matter
from .kit import (
    WHISKERS_MEAN,
    capital,
    colour_of,
    escape,
    family,
    ink,
    least_span,
    plain_axes,
    style,
    ticks,
    token_label,
    whiskers,
)
from .labels import describe, joint, layer_label, position_label, run_lines, words_of
from .protocols import Panel, Patched

MAX_HEADS = 16  # panels of one figure; the strongest are kept
LETTERS = 28  # of a prompt in a caption, for each inch: two lines
CLIP = (-100.0, 200.0)  # percent; the colour bar gets an arrow where values go beyond


def plot(
    result: Patched,
    path: str | os.PathLike | None = None,
    metric: str | None = None,
    rows: Any = "auto",
    **look: Unpack[Look],
) -> Figure:
    """The figure that fits the result's dims: bars per layer, or a heatmap per component (and per head).

    Panels share one scale. Noising is drawn from 100 %, where a cell changes nothing.

    Args:
        result: what `activation_patching` returns.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        metric: whose recovery is shown, in percent; default: the result's first.
        rows: which tokens a map shows: "auto", of a long prompt those that matter, which is said; "all"; or positions.
        look: `ax=` or `fig=` to draw on, `caption=False`.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: for a metric that the result does not have, rows that are not there, what cannot be drawn on, or a
            path that cannot be written, before drawing.

    Example:
        >>> from mlxtrace import InterpretableModel, plotting
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> result = model.activation_patching(*prompts, progress=False)
        >>> figure = plotting.plot(result)
        >>> len(figure.axes[0].patches) == model.n_layers  # a bar for each layer
        True
    """
    sheet = Sheet(path, **look)
    panels = result.panels(metric)
    metric = metric or result.metrics[0]
    label = f"recovery of {words_of_metric(metric, result)} (%)"
    with style():
        if panels[0].column_name == "component":
            _bars(sheet, result, panels[0], label, rows)
        else:
            _maps(sheet, result, panels, label, rows)
    return sheet.finish()


def _bars(sheet: Sheet, result: Patched, panel: Panel, label: str, asked: Any) -> None:
    if not isinstance(asked, str) or asked not in ("auto", "all"):
        raise InputError(f"rows={asked!r} are tokens of a map, and this result has one number for each layer")
    n, layers = len(panel.columns), len(panel.rows)
    stacked = n > 1 and layers > 20  # deep models: panels below each other, so that bars keep their width
    rows, columns = (n, 1) if stacked else (-(-n // 4), min(n, 4))
    width = min(12, max(3.2 if n > 1 else 5, 0.8 + 0.2 * layers))
    most = (15.5, 10.5)
    sheet.open(min(width * columns, most[0]), min(0.9 + (1.9 if stacked else 2.7) * rows, most[1]))
    grid = sheet.axes(rows, columns, sharex=True, sharey=True)
    halves = [None] * n if panel.halves is None else panel.halves.T
    for ax, component, values, half in zip(grid.flat, panel.columns, panel.values.T, halves, strict=False):
        below = values < result.no_effect
        dark, light = (colour_of(component, shade) for shade in (0.75, 0.4))
        colours = [light if b != (result.direction == "noise") else dark for b in below]
        ax.bar(range(layers), values - result.no_effect, bottom=result.no_effect, color=colours, width=0.8)
        whiskers(ax, range(layers), values, half)
        ax.axhline(result.no_effect, color=ink(), linewidth=0.8)
        plain_axes(ax)
        ax.set_xlim(-0.6, layers - 0.4)
        ax.margins(y=0.08)
        least_span(ax, 1.0, result.no_effect)
        ticks(ax.xaxis, [str(x) for x in panel.rows], most=int(width * 4))
        if n > 1:
            apart = f", {layer_label(result, component)}" if result.settings.get("windows") else ""
            ax.set_title(escape(capital(words_of(component)) + apart))
    for ax in list(grid.flat)[n:]:
        ax.remove()
    for ax in grid[:, 0]:
        ax.set_ylabel(escape(label))
    for ax in grid[-1]:
        ax.set_xlabel(
            "layer" if result.settings.get("windows") else layer_label(result, result.components[0])
        )
    _words(sheet, result, [] if len(result.ids) < 2 else [WHISKERS_MEAN])


def _maps(sheet: Sheet, result: Patched, panels: list[Panel], label: str, asked: Any) -> None:
    total = len(panels)
    if panels[0].head is not None and total > MAX_HEADS:
        strength = [np.nan_to_num(np.abs(p.values - result.no_effect)).max() for p in panels]
        panels = [panels[i] for i in sorted(np.argsort(strength)[::-1][:MAX_HEADS])]
    x_label = "head" if panels[0].column_name == "head" else "layer"
    names, marked = row_labels(result, panels[0]), marked_rows(result, panels[0])
    maps = [
        Map(
            values=p.values,
            rows=names,
            columns=[str(c) for c in p.columns],
            family=family(p.component),
            title=_panel_title(p) if total > 1 else "",
            x_label=layer_label(result, p.component) if x_label == "layer" else "",
            halves=p.halves,
            first=marked,
        )
        for p in panels
    ]
    scale = scale_of(np.concatenate([p.values.ravel() for p in panels]), result.direction == "noise")
    shown = rows_of(panels, scale, marked, asked)
    y_label = "layer" if panels[0].row_name == "layer" else ""
    draw(maps, scale, label, x_label, y_label, sheet=sheet, rows=shown)
    extra = f" – the strongest {len(panels)} of {total} heads" if len(panels) < total else ""
    _words(
        sheet, result, [*joint(result.coords.get("position", ())), *hatching_explained(maps, scale)], extra
    )


def rows_of(panels: Sequence[Panel], scale: Scale, marked: list[int], asked: Any) -> Rows:
    """Which rows of some panels are shown: of tokens those that matter, or that were asked for; else all."""
    first = panels[0]
    values = np.concatenate([p.values for p in panels], axis=1)
    if first.row_name == "position":
        keep = [first.rows[i] for i in marked]
        low, high = scale.low, scale.high
        return matter(values, asked, white=scale.white, low=low, high=high, keep=keep, labels=first.rows)
    if isinstance(asked, str) and asked in ("auto", "all"):
        return matter(values, "all")
    raise InputError(f"rows={asked!r} are tokens, and the rows of this map are {first.row_name}s")


def marked_rows(result: Patched, panel: Panel) -> list[int]:
    """The rows that stay in a map that is cut: the subject's tokens and the last."""
    if panel.row_name != "position":
        return []
    subject = result.subject_range or ()
    return [i for i, p in enumerate(panel.rows) if p in subject or i == len(panel.rows) - 1]


def scale_of(recoveries: np.ndarray, noise: bool = False) -> Scale:
    """From the least to the largest recovery, no effect included, and no further than `CLIP`; of noise, from 100 %."""
    no_effect = 100.0 if noise else 0.0
    moved = np.nan_to_num(recoveries - no_effect)
    low, high = min(moved.min(), 0), max(moved.max(), 0)
    if noise:
        low, high = max(low, -CLIP[1]), min(high, -CLIP[0])
    else:
        low, high = max(low, CLIP[0]), min(high, CLIP[1])
    if high - low < 1:  # a map of nothing must not look like a finding
        low, high = (-1, high) if noise else (low, 1)
    return Scale(low + no_effect, high + no_effect, no_effect, noise)


def words_of_metric(metric: str, result: Any = None) -> str:
    """What axes call a metric of a result: "probability"; a function by its name."""
    other = getattr(result, "settings", {}).get("words", {})
    if metric in other:
        return other[metric]
    return METRICS[metric].words if metric in METRICS else token_label(metric)


def row_labels(result: Patched, panel: Panel) -> list[str]:
    """Tokens, regions or layers, as the rows of a map are called."""
    if panel.row_name == "position":
        names = [position_label(result, i, token_label) for i in panel.rows]
        numbered = result.ids or len(panel.rows) > MOST or joint(panel.rows)
        return [f"{i} {name}" for i, name in zip(panel.rows, names, strict=True)] if numbered else names
    if panel.row_name == "region" and result.ids:
        return _regions(result, panel.rows)
    return [str(i) for i in panel.rows]


def _regions(result: Patched, names: list[str]) -> list[str]:
    """The regions of a set, with the number of pairs that have one where some lack it."""
    n = np.moveaxis(result.n, result.dims.index("region"), 0).reshape(len(names), -1)[:, 0]
    of_all = len(result.ids)
    return [name if k == of_all else f"{name} ({k} pairs)" for name, k in zip(names, n, strict=True)]


def _panel_title(panel: Panel) -> str:
    if panel.head is None:
        return capital(words_of(panel.component))
    return f"head {panel.head}" if panel.component == "head" else f"{panel.component}, head {panel.head}"


def _words(sheet: Sheet, result: Patched, explained: list[str], extra: str = "") -> None:
    caption = [f"{run}: {line}" for run, line in run_lines(result, int(LETTERS * sheet.inches[0]))]
    sheet.headline(describe(result) + extra, [*caption, *explained])
