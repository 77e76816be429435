"""Causal mediation: direct and indirect effects, and noise everywhere but in a window of layers."""

from __future__ import annotations

import os

import numpy as np
from matplotlib.figure import Figure

from .heatmaps import Map, Scale, draw, hatching_explained
from .kit import (
    WHISKERS_MEAN,
    checked,
    colour_of,
    escape,
    family,
    finished,
    headline,
    plain_axes,
    style,
    ticks,
    token_labels,
    whiskers,
)
from .labels import NATURAL, WITHIN, over, words_of
from .protocols import Effects, NoisedButAWindow


def effects(result: Effects, path: str | os.PathLike | None = None) -> Figure:
    """Direct and indirect effects side by side: bars by layer, or maps with tokens down and layers across.

    Args:
        result: what `causal_effects` returns.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when the path cannot be written.

    Example:
        >>> from mlxtrace import InterpretableModel, plotting
        >>> model = InterpretableModel("demo")
        >>> prompts = "Paris is in the country of", "Rome is in the country of"
        >>> figure = plotting.effects(model.causal_effects(*prompts, component="mlp", progress=False))
        >>> figure.axes[1].get_title()
        'Indirect: drop in the source run'
    """
    path = checked(path)
    words = words_of(result.component)
    with style():
        fig, explained = _effect_bars(result) if result.direct.ndim == 1 else _effect_maps(result)
        caption = [*(f"{run}: {said}" for run, said in result.runs), NATURAL, *explained]
        where = f" ({WITHIN.get(result.within, 'each region')})" if result.regions is not None else ""
        headline(fig, f"Causal effects of the {words}{over(result.ids)}{where}", caption)
    return finished(fig, path)


def _effect_bars(result: Effects) -> tuple[Figure, list[str]]:
    fig = Figure(figsize=(8, 3.6), layout="constrained")
    axes = fig.subplots(1, 2, sharex=True)
    panels = (
        ("direct", result.base_value, "Direct: source's activation into the base run", "base run"),
        ("indirect", 0.0, "Indirect: drop in the source run", "no drop"),
    )
    for ax, (effect, line, title, name) in zip(axes, panels, strict=True):
        values = getattr(result, effect)
        ax.bar(range(len(values)), values, color=colour_of(result.component), width=0.8)
        whiskers(ax, range(len(values)), values, result.halves.get(effect))
        ax.axhline(line, color="black", linewidth=0.8, linestyle="--", label=name)
        ax.set_title(title)
        ax.set_xlabel("layer" if result.window == 1 else f"centre of {result.window} layers")
        ax.legend(frameon=False, fontsize=7)
        ticks(ax.xaxis, [str(layer) for layer in result.layers], most=16)
        plain_axes(ax)
    axes[0].set_ylabel(escape(result.metric))
    return fig, [WHISKERS_MEAN] if len(result.ids) > 1 else []


def _effect_maps(result: Effects) -> tuple[Figure, list[str]]:
    rows = result.regions or token_labels(result.tokens, result.subject_range, result.positions)
    columns, colours = [str(layer) for layer in result.layers], family(result.component)
    maps = []
    for name, title in (
        ("direct_change", "Direct less the base run: natural indirect effect"),
        ("indirect", "Indirect: drop in the source run"),
    ):
        halves = result.halves.get(name)
        values = getattr(result, name).T
        maps.append(Map(values, rows, columns, colours, title, halves=None if halves is None else halves.T))
    values = np.stack([m.values for m in maps])
    scale = Scale(min(values.min(), 0.0), max(values.max(), 1e-3), 0.0)
    return draw(maps, scale, result.metric, "layer"), hatching_explained(maps, scale)


def noising(result: NoisedButAWindow, path: str | os.PathLike | None = None) -> Figure:
    """A bar for each window that is restored, with lines at the clean and the fully noised run.

    Args:
        result: what `noising_window` returns.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.

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
    path = checked(path)
    with style():
        fig = Figure(figsize=(5, 3.2), layout="constrained")
        ax = fig.subplots()
        ax.bar(range(len(result.layers)), result.scores, color=colour_of(result.component), width=0.8)
        whiskers(ax, range(len(result.layers)), result.scores, result.halves)
        for value, name, dashes in ((result.clean, "clean", "-"), (result.noised, "all layers noised", ":")):
            ax.axhline(value, color="black", linewidth=0.8, linestyle=dashes, label=name)
        ticks(ax.xaxis, [str(layer) for layer in result.layers], most=20)
        ax.set_xlabel(f"centre of the {result.window} restored layers")
        answer = "answer" if result.answer is None else result.answer.text.strip()
        ax.set_ylabel(f"p({escape(answer)})")
        ax.legend(frameon=False, fontsize=7)
        plain_axes(ax)
        words = words_of(result.component)
        caption = [f"prompt: {result.prompt}", *([WHISKERS_MEAN] if len(result.ids) > 1 else [])]
        headline(fig, f"Noise on every {words} but a window{over(result.ids)}", caption)
    return finished(fig, path)
