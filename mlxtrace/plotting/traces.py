"""Causal traces: the map of one fact, one token with a path severed, and the same trace on two models."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..anatomy.components import KINDS, short_words
from ..errors import InputError
from .arrays import matrix
from .colours import ink
from .heatmaps import Map, Scale, draw
from .kit import (
    capital,
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
)
from .labels import probability, quoted
from .protocols import ComparedTraces, Traced


def rome_heatmap(
    scores: Any,
    tokens: Sequence[str],
    *,
    low: float,
    high: float | None = None,
    subject_range: Collection[int] | None = None,
    kind: str | None = None,
    window: int = 10,
    answer: str = "",
    model: str = "",
    top: float | None = None,
    title: str = "",
    path: str | os.PathLike | None = None,
) -> Figure:
    """Causal trace of one fact as in figure 1 of Meng et al. (2022): the colour is p(answer).

    Args:
        scores: `[tokens, layers]`, probabilities; or a dict `{kind: scores}` for panels side by side on one scale.
        tokens: the labels of the rows.
        low: the corrupted run's probability, where the colours start.
        high: the clean run's probability, which is written below.
        subject_range: rows to mark with `*`.
        kind: what was restored: None (layer outputs), "mlp" or "attn" (windows of `window` layers).
        window: layers restored together.
        answer: the token whose probability it is.
        model: a name for the axis.
        top: where the colours end; default: the largest score.
        title: instead of the usual one.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when the scores and the tokens do not fit, for an unknown kind, or a path that cannot be written.

    Example:
        >>> from mlxtrace import InterpretableModel, plotting
        >>> model = InterpretableModel("demo")
        >>> trace = model.causal_trace("The Eiffel Tower is in", "Eiffel Tower", samples=2, progress=False)
        >>> figure = plotting.rome_heatmap(trace.scores, trace.tokens, low=trace.low_score, answer=" Paris")
        >>> figure.axes[-1].get_ylabel()
        'p(Paris)'
    """
    path = checked(path)
    traces = scores if isinstance(scores, dict) else {kind: scores}
    for name in traces:
        if name not in KINDS:
            raise InputError(f"kind {name!r} is none of None (layer outputs), 'mlp', 'attn'")
    rows = token_labels(tokens, subject_range)
    maps = []
    for name, values in traces.items():
        values = matrix(values, (len(rows), None), "scores must be [tokens, layers]")
        x_label = f"centre of {window} restored {short_words(name)} layers"
        if name is None:
            x_label = "single restored layer" + (f" within {model}" if model else "")
        panel = capital(short_words(name)) if len(traces) > 1 else ""
        columns = [str(i) for i in range(values.shape[1])]
        maps.append(Map(values, rows, columns, family(name), panel, x_label))
    names = " or ".join(", ".join(short_words(name) for name in traces).rsplit(", ", 1))
    top = max(float(m.values.max()) for m in maps) if top is None else top
    with style():
        bar = f"p({escape(answer.strip())})" if answer else "p(answer)"
        fig = draw(maps, Scale(low, max(top, low + 1e-3), low), bar)
        clean = "" if high is None else f"clean {probability(high)}, "
        headline(
            fig,
            title or f"Impact of restoring {names} after corrupted input",
            [f"{bar}: {clean}corrupted {probability(low)}"],
        )
    return finished(fig, path)


def severed(traces: Mapping[str | None, Traced], path: str | os.PathLike | None = None) -> Figure:
    """Figure 3 of Meng et al. (2022): one token's indirect effects by layer, as it is and with a path cut.

    Args:
        traces: `{None: trace, "attn": trace, "mlp": trace}`, by what was severed, of one position each.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when there is no trace under None, or the path cannot be written.

    Example:
        >>> from mlxtrace import InterpretableModel, plotting
        >>> model = InterpretableModel("demo")
        >>> options = {"positions": "subject_last", "samples": 2, "progress": False}
        >>> traces = {
        ...     part: model.causal_trace("The Eiffel Tower is in", "Eiffel Tower", severed=part, **options)
        ...     for part in (None, "mlp")
        ... }
        >>> len(plotting.severed(traces).axes[0].patches) == 2 * model.n_layers
        True
    """
    path = checked(path)
    if None not in traces:
        raise InputError(f"traces holds the trace with nothing severed under None; it has {list(traces)}")
    with style():
        fig = Figure(figsize=(6.5, 2.9), layout="constrained")
        ax = fig.subplots()
        width = 0.8 / len(traces)
        for i, (cut, trace) in enumerate(traces.items()):
            effect = trace.scores[-1] - traces[None].low_score
            label = "one layer output" if cut is None else f"with {short_words(cut)} severed"
            at = np.arange(len(effect)) + (i - (len(traces) - 1) / 2) * width
            ax.bar(at, effect, width, color=colour_of(cut), label=label)
        ticks(ax.xaxis, [str(layer) for layer in range(len(effect))], most=24)
        ax.axhline(0, color=ink(), linewidth=0.8)
        ax.set_xlabel("layer whose output is restored")
        ax.set_ylabel("indirect effect")
        ax.legend(frameon=False, fontsize=7)
        plain_axes(ax)
        token = quoted(trace.tokens[trace.positions[-1]])
        headline(
            fig,
            f"Effect of layer outputs at {token} with attention or MLPs severed",
            [f"prompt: {trace.prompt}"],
        )
    return finished(fig, path)


def comparison(result: ComparedTraces, path: str | os.PathLike | None = None) -> Figure:
    """The same trace on two models side by side, on one colour scale.

    Args:
        result: what `compare_bits` returns.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when the path cannot be written.

    Example:
        >>> from mlxtrace import InterpretableModel, plotting
        >>> model = InterpretableModel("demo")
        >>> options = {"positions": "subject_last", "samples": 1, "progress": False}
        >>> result = model.compare_bits("The Eiffel Tower is in", "Eiffel Tower", 4, **options)
        >>> [axis.get_title() for axis in plotting.comparison(result).axes[:2]]
        ['demo', '4 bits']
    """
    path = checked(path)
    first = result.first
    rows = token_labels(first.tokens, first.subject_range, first.positions)
    columns = [str(layer) for layer in range(first.scores.shape[1])]
    maps = [
        Map(trace.scores, rows, columns, family(trace.kind), name)
        for name, trace in zip(result.names, (first, result.second), strict=True)
    ]
    low, top = first.low_score, max(float(m.values.max()) for m in maps)
    with style():
        label = f"p({escape(first.answer.text.strip())})"
        fig = draw(maps, Scale(low, max(top, low + 1e-3), low), label, "layer")
        caption = f"correlation {result.correlation:.4f}, largest difference {result.largest_difference:.4f}"
        headline(fig, f"Impact of restoring {short_words(first.kind)}", [caption])
    return finished(fig, path)
