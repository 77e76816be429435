"""Averages of causal traces over facts: maps, lines with their 95 % intervals, and those of two models compared."""

from __future__ import annotations

import os

import numpy as np
from matplotlib.figure import Figure

from ..anatomy.components import short_words
from .heatmaps import Map, Scale, draw, hatching_explained
from .kit import capital, checked, colour_of, family, finished, headline, plain_axes, style, ticks
from .protocols import Averaged, ComparedAverages

ROLE_COLOURS = ("#c7b8e0", "#8f7cc0", "#4b2e83", "#f2b701", "#9a9a9a", "#d1495b")  # first token to last


def average_maps(result: Averaged, path: str | os.PathLike | None = None) -> Figure:
    """Average indirect effects as six-row heatmaps, one for each kind, on one colour scale.

    Args:
        result: what `facts.run` or `facts.averages` returns.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.

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
    path = checked(path)
    there = [i for i in range(len(result.roles)) if result.counts[i]]
    rows = [result.roles[i] for i in there]
    maps = []
    for kind, effect in zip(result.kinds, result.indirect_effect, strict=True):
        columns = [str(layer) for layer in range(effect.shape[1])]
        x_label = "single restored layer" if kind is None else f"centre of {result.window} restored layers"
        maps.append(Map(effect[there], rows, columns, family(kind), capital(short_words(kind)), x_label))
    values = np.concatenate([m.values.ravel() for m in maps])
    with style():
        fig = draw(
            maps, Scale(min(values.min(), 0.0), max(values.max(), 1e-3), 0.0), "average indirect effect"
        )
        headline(fig, f"Average indirect effect over {result.facts} facts", [_total(result)])
    return finished(fig, path)


def average_lines(result: Averaged, path: str | os.PathLike | None = None) -> Figure:
    """Average indirect effects by layer, a line for each kind of token with its 95 % band, a panel for each kind.

    Args:
        result: what `facts.run` or `facts.averages` returns.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.

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
    path = checked(path)
    n = len(result.kinds)
    with style():
        fig = Figure(figsize=(3.4 * n + 1.2, 3.2), layout="constrained")
        axes = fig.subplots(1, n, sharey=True, squeeze=False)[0]
        for ax, kind, effect, band in zip(
            axes, result.kinds, result.indirect_effect, result.interval, strict=True
        ):
            for role, line, half, colour in zip(result.roles, effect, band, ROLE_COLOURS, strict=True):
                if np.isnan(line).any():
                    continue
                ax.plot(line, color=colour, label=role, linewidth=1.4)
                if not np.isnan(half).any():
                    ax.fill_between(
                        range(len(line)), line - half, line + half, color=colour, alpha=0.2, linewidth=0
                    )
            ticks(ax.xaxis, [str(layer) for layer in range(effect.shape[1])], most=14)
            ax.axhline(0, color="black", linewidth=0.6)
            ax.set_title(capital(short_words(kind)), color=colour_of(kind))
            ax.set_xlabel("layer" if kind is None else f"centre of {result.window} layers")
            plain_axes(ax)
        axes[0].set_ylabel("average indirect effect")
        handles, labels = axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=7)
        headline(fig, f"Average indirect effect, 95 % intervals, {result.facts} facts", [_total(result)])
    return finished(fig, path)


def compared_averages(result: ComparedAverages, path: str | os.PathLike | None = None) -> Figure:
    """Mean scores of the same traces on two models on one scale, and their difference on one of its own.

    Differences that look like one and whose 95 % interval covers 0 are hatched.

    Args:
        result: what `compare_bits` returns for many prompts.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.

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
    path = checked(path)
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
        fig = draw([*maps, gap], shared, "mean p(answer)", "layer", own_label="difference")
        caption = (
            f"correlation {result.correlation:.4f}, mean over {result.n} prompts; "
            f"the peak moved in {len(result.moved)}"
        )
        title = f"Impact of restoring {short_words(result.kind)}, {result.n} prompts"
        headline(fig, title, [caption, *hatching_explained([gap], own)])
    return finished(fig, path)


def _total(result: Averaged) -> str:
    return (
        f"average total effect {result.total_effect:.3f} ± {result.total_interval:.3f}: "
        f"clean {result.high_score:.3f}, corrupted {result.low_score:.3f}"
    )
