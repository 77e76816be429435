"""Averages of causal traces over facts: maps, lines with their 95 % intervals, and those of two models compared."""

from __future__ import annotations

import os
from typing import Any, Unpack

import numpy as np
from matplotlib.figure import Figure

from ..anatomy.components import short_words
from .charts import (
    ROLES,
    Look,
    Sheet,
    band,
    by_layer,
    capital,
    colour_of,
    family,
    ink,
    least_span,
    legend,
    seen,
    style,
)
from .heatmaps import Map, Scale, draw, hatching_explained
from .protocols import Averaged, ComparedAverages

LEAST = 1e-3  # that a scale of probabilities goes to: less looks like nothing
BANDS = "bands: 95 % intervals over the facts"
DASHES = ("-", "-", "-", "--", "--", "--")  # the subject's tokens, and those after it


def average_maps(result: Averaged, path: str | os.PathLike | None = None, **look: Unpack[Look]) -> Figure:
    """Average indirect effects as six-row heatmaps, one for each kind, on one colour scale.

    Args:
        result: what `facts.run` or `facts.averages` returns.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        look: `fig` to draw on, and `caption`, as in every plot.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when the path cannot be written.

    Example:
        >>> import tempfile
        >>> from mlxtrace import InterpretableModel, facts, plotting
        >>> model, some = InterpretableModel("demo"), facts.load()[:2]
        >>> with tempfile.TemporaryDirectory() as out:
        ...     average = facts.run(model, some, out, kinds=(None,), samples=1, progress=False)
        >>> plotting.average_maps(average).axes[0].get_xlabel()
        'single restored layer'
    """
    sheet = Sheet(path, **look)
    there = [i for i in range(len(result.roles)) if result.counts[i]]
    rows = [result.roles[i] for i in there]
    maps = []
    for kind, effect in zip(result.kinds, result.indirect_effect, strict=True):
        columns = [str(layer) for layer in range(effect.shape[1])]
        x_label = "single restored layer" if kind is None else f"centre of {result.window} restored layers"
        maps.append(Map(effect[there], rows, columns, family(kind), capital(short_words(kind)), x_label))
    values = np.concatenate([m.values.ravel() for m in maps])
    with style():
        scale = Scale(min(np.nanmin(values, initial=0.0), 0.0) + 0.0, np.nanmax(values, initial=1e-3), 0.0)
        draw(maps, scale, "average indirect effect", sheet=sheet)
        sheet.headline(f"Average indirect effect over {result.facts} facts", [_total(result)])
    return sheet.finish()


def average_lines(result: Averaged, path: str | os.PathLike | None = None, **look: Unpack[Look]) -> Figure:
    """Average indirect effects by layer, a line for each kind of token with its 95 % band, a panel for each kind.

    Args:
        result: what `facts.run` or `facts.averages` returns.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        look: `fig` to draw on, and `caption`, as in every plot.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when the path cannot be written.

    Example:
        >>> import tempfile
        >>> from mlxtrace import InterpretableModel, facts, plotting
        >>> model, some = InterpretableModel("demo"), facts.load()[:2]
        >>> with tempfile.TemporaryDirectory() as out:
        ...     average = facts.run(model, some, out, kinds=(None,), samples=1, progress=False)
        >>> plotting.average_lines(average).axes[0].get_ylabel()
        'average indirect effect'
    """
    sheet, layers = Sheet(path, **look), range(result.indirect_effect.shape[-1])
    with style():
        axes = by_layer(sheet, layers, len(result.kinds), y_label="average indirect effect", beside=1.6)
        for i, (ax, kind) in enumerate(zip(axes, result.kinds, strict=True)):
            _lines(ax, result, i)
            ax.axhline(0, color=ink(), linewidth=0.6)
            ax.set_title(capital(short_words(kind)), color=colour_of(kind))
            if ax.get_xlabel():
                ax.set_xlabel("layer" if kind is None else f"centre of {result.window} layers")
        least_span(axes[0], LEAST)
        legend(axes[-1], sheet.ax is not None)
        bands = [] if np.isnan(result.interval).all() else [BANDS]
        sheet.headline(f"Average indirect effect over {result.facts} facts", [_total(result), *bands])
    return sheet.finish()


def _lines(ax: Any, result: Averaged, i: int) -> None:
    """A line for each kind of token, and its band between two thin lines of its colour, which show where it is pale.

    Of a single layer they are points with whiskers, beside each other.
    """
    parts = zip(result.roles, result.indirect_effect[i], result.interval[i], ROLES, DASHES, strict=True)
    for k, (role, line, half, colour, dashes) in enumerate(parts):
        if np.isnan(line).any():
            continue
        known, colour = not np.isnan(half).any(), seen(colour)
        if len(line) == 1:
            ax.errorbar(
                [0.12 * k - 0.3], line, yerr=half if known else None, fmt="o", color=colour, label=role
            )
            continue
        ax.plot(line, dashes, color=colour, label=role, linewidth=1.5)
        if known:
            ax.fill_between(range(len(line)), line - half, line + half, **band(colour))


def compared_averages(
    result: ComparedAverages, path: str | os.PathLike | None = None, **look: Unpack[Look]
) -> Figure:
    """Mean scores of the same traces on two models on one scale, and their difference on one of its own.

    Differences that look like one and whose 95 % interval covers 0 are hatched.

    Args:
        result: what `compare_bits` returns for many prompts.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        look: `fig` to draw on, and `caption`, as in every plot.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when the path cannot be written.

    Example:
        >>> from mlxtrace import InterpretableModel, plotting
        >>> model = InterpretableModel("demo")
        >>> prompts = ["The Eiffel Tower is in", "The Eiffel Tower is located in"]
        >>> options = {"positions": "last", "samples": 1, "progress": False}
        >>> result = model.compare_bits(prompts, "Eiffel Tower", 4, **options)
        >>> [axis.get_title() for axis in plotting.compared_averages(result).axes[:3]]
        ['demo', '4 bits', '4 bits - demo']
    """
    sheet = Sheet(path, **look)
    columns = [str(layer) for layer in range(result.first.shape[1])]
    kind, (one, two) = family(result.kind), result.names
    means = (result.first, result.second)
    top, most = max(float(x.max()) for x in means), float(np.abs(result.difference).max())
    shared, own = Scale(0.0, max(top, 1e-3), 0.0), Scale(-max(most, 1e-6), max(most, 1e-6), 0.0)
    maps = [Map(x, result.roles, columns, kind, name) for x, name in zip(means, result.names, strict=True)]
    gap = Map(
        result.difference, result.roles, columns, kind, f"{two} - {one}", halves=result.interval, scale=own
    )
    with style():
        draw([*maps, gap], shared, "mean p(answer)", "layer", own_label="difference", sheet=sheet)
        caption = (
            f"correlation {result.correlation:z.4f}, mean over {result.n} prompts; "
            f"the peak moved in {len(result.moved)}"
        )
        title = f"Impact of restoring {short_words(result.kind)}, {result.n} prompts"
        sheet.headline(title, [caption, *hatching_explained([gap], own)])
    return sheet.finish()


def _total(result: Averaged) -> str:
    return (
        f"average total effect {result.total_effect:z.3f} ± {result.total_interval:z.3f}: "
        f"clean {result.high_score:z.3f}, corrupted {result.low_score:z.3f}"
    )
