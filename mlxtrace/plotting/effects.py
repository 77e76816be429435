"""Causal mediation: direct and indirect effects, and noise everywhere but in a window of layers."""

from __future__ import annotations

import os
from typing import Any, Unpack

import numpy as np
from matplotlib.figure import Figure

from .charts import (
    WHISKERS_MEAN,
    Look,
    Rows,
    Sheet,
    by_layer,
    colour_of,
    family,
    ink,
    least_span,
    legend,
    matter,
    no_rows,
    style,
    title,
    token_labels,
    whiskers,
)
from .heatmaps import Map, Scale, draw, hatching_explained
from .labels import NATURAL, WITHIN, over, words_of
from .protocols import Effects, NoisedButAWindow

LEAST = 1e-3  # of a metric, that a scale goes to: less looks like nothing
PANELS = (
    ("direct_change", "Direct less the base run: natural indirect effect"),
    ("indirect", "Indirect: drop in the source run"),
)


def effects(
    result: Effects, path: str | os.PathLike | None = None, rows: Any = "auto", **look: Unpack[Look]
) -> Figure:
    """Direct and indirect effects side by side: bars by layer, or maps with tokens down and layers across.

    Both are changes on one scale, 0 where nothing happened: direct effects are drawn less the base run.

    Args:
        result: what `causal_effects` returns.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        rows: which tokens a map shows: "auto", of a long prompt those that matter, which is said; "all"; or positions.
        look: `fig` to draw on, and `caption`, as in every plot.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when the path cannot be written, or the rows are none of the map's.

    Example:
        >>> from mlxtrace import InterpretableModel, plotting
        >>> model = InterpretableModel("demo")
        >>> prompts = "Paris is in the country of", "Rome is in the country of"
        >>> figure = plotting.effects(model.causal_effects(*prompts, component="mlp", progress=False))
        >>> figure.axes[1].get_title()
        'Indirect: drop in the source run'
    """
    sheet, words = Sheet(path, **look), words_of(result.component)
    with style():
        explained = (_effect_bars if result.direct.ndim == 1 else _effect_maps)(result, sheet, rows)
        caption = [*(f"{run}: {said}" for run, said in result.runs), NATURAL, *explained]
        where = f" ({WITHIN.get(result.within, 'each region')})" if result.regions is not None else ""
        sheet.headline(f"Causal effects of the {words}{over(result.ids)}{where}", caption)
    return sheet.finish()


def _effect_bars(result: Effects, sheet: Sheet, asked: Any) -> list[str]:
    no_rows(asked)
    x_label = "layer" if result.window == 1 else f"centre of {result.window} layers"
    axes = by_layer(sheet, result.layers, len(PANELS), x_label, f"change of {result.metric}")
    for ax, (effect, name) in zip(axes, PANELS, strict=True):
        values = getattr(result, effect)
        ax.bar(range(len(values)), values, color=colour_of(result.component), width=0.8)
        whiskers(ax, range(len(values)), values, result.halves.get(effect))
        ax.axhline(0, color=ink(), linewidth=0.8)
        title(ax, name, ax.get_position().width * sheet.inches[0])
    least_span(axes[0], LEAST)
    return [WHISKERS_MEAN] if len(result.ids) > 1 else []


def _effect_maps(result: Effects, sheet: Sheet, asked: Any) -> list[str]:
    rows = result.regions or token_labels(result.tokens, result.subject_range, result.positions)
    columns, colours = [str(layer) for layer in result.layers], family(result.component)
    maps = []
    for name, said in PANELS:
        halves = result.halves.get(name)
        values = getattr(result, name).T
        maps.append(Map(values, rows, columns, colours, said, halves=None if halves is None else halves.T))
    values = np.stack([m.values for m in maps])
    scale = Scale(min(np.nanmin(values), 0.0) + 0.0, max(np.nanmax(values), LEAST), 0.0)
    x_label = "layer" if result.window == 1 else f"centre of {result.window} layers"
    draw(
        maps,
        scale,
        f"change of {result.metric}",
        x_label,
        sheet=sheet,
        rows=_shown(result, values, asked, scale),
    )
    grey = ["grey: no pair has it"] if np.isnan(values).any() else []
    return [*hatching_explained(maps, scale), *grey]


def _shown(result: Effects, values: np.ndarray, asked: Any, scale: Scale) -> Rows:
    """Of the tokens those that matter, or that were asked for; of regions all."""
    labels = None if result.regions is not None else result.positions
    if labels is None:
        no_rows(asked)
        return matter(values[0], "all")
    keep = [*(result.subject_range or ()), labels[-1]]
    every = np.concatenate(values, axis=1)
    return matter(every, asked, low=scale.low, high=scale.high, keep=keep, labels=labels)


def noising(result: NoisedButAWindow, path: str | os.PathLike | None = None, **look: Unpack[Look]) -> Figure:
    """A bar for each window that is restored, with lines at the clean and the fully noised run.

    Args:
        result: what `noising_window` returns.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        look: `ax` or `fig` to draw on, and `caption`, as in every plot.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when the path cannot be written.

    Example:
        >>> from mlxtrace import InterpretableModel, plotting
        >>> model = InterpretableModel("demo")
        >>> figure = plotting.noising(model.noising_window("The Eiffel Tower is in the city of"))
        >>> figure.axes[0].get_ylabel()
        'p(Paris)'
    """
    sheet, at = Sheet(path, **look), range(len(result.layers))
    with style():
        answer = "answer" if result.answer is None else result.answer.text.strip()
        x_label = f"centre of the {result.window} restored layers"
        (ax,) = by_layer(sheet, result.layers, 1, x_label, f"p({answer})", beside=1.2)
        ax.bar(at, result.scores, color=colour_of(result.component), width=0.8)
        whiskers(ax, at, result.scores, result.halves)
        for value, name, dashes in ((result.clean, "clean", "-"), (result.noised, "all layers noised", ":")):
            ax.axhline(value, color=ink(), linewidth=0.9, linestyle=dashes, label=name)
        legend(ax, sheet.ax is not None)
        words = words_of(result.component)
        caption = [f"prompt: {result.prompt}", *([WHISKERS_MEAN] if len(result.ids) > 1 else [])]
        sheet.headline(f"Noise on every {words} but a window{over(result.ids)}", caption)
    return sheet.finish()
