"""Causal traces: the map of one fact, one token with a path severed, and the same trace on two models."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from matplotlib.figure import Figure

from ..anatomy.components import KINDS, centre_of, short_words
from ..errors import InputError
from .arrays import matrix
from .charts import legend
from .heatmaps import MOST, Look, Map, Rows, Scale, Sheet, draw, matter
from .kit import (
    capital,
    colour_of,
    escape,
    family,
    ink,
    plain_axes,
    style,
    ticks,
    token_labels,
)
from .labels import elided, joint, model_name, probability, quoted, text_at
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
    positions: Sequence[int | str] | None = None,
    rows: Any = "auto",
    **look: Unpack[Look],
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
        positions: which token of the prompt each row is, or which span, "32-63"; default: 0, 1, 2, ...
        rows: which positions are shown: "auto", of many those that matter, which is said; "all"; or positions.
        look: `ax=` or `fig=` to draw on, `caption=False`.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when the scores and the tokens do not fit, for an unknown kind, rows that are not there, what cannot
            be drawn on, or a path that cannot be written.

    Example:
        >>> from mlxtrace import InterpretableModel, plotting
        >>> model = InterpretableModel("demo")
        >>> trace = model.causal_trace("The Eiffel Tower is in", "Eiffel Tower", samples=2, progress=False)
        >>> figure = plotting.rome_heatmap(trace.scores, trace.tokens, low=trace.low_score, answer=" Paris")
        >>> figure.axes[-1].get_ylabel()
        'p(Paris)'
    """
    sheet = Sheet(path, **look)
    traces = scores if isinstance(scores, dict) else {kind: scores}
    for name in traces:
        if name not in KINDS:
            raise InputError(f"kind {name!r} is none of None (layer outputs), 'mlp', 'attn'")
    known = [
        (name, matrix(values, (len(tokens), None), "scores must be [tokens, layers]"))
        for name, values in traces.items()
    ]
    labels = rows_named(tokens, subject_range, positions)
    marked = [i for i in range(len(tokens)) if i in (subject_range or ()) or i == len(tokens) - 1]
    maps = [_map(name, values, labels, marked, window, model, len(known) > 1) for name, values in known]
    names = " or ".join(", ".join(short_words(name) for name in traces).rsplit(", ", 1))
    top = max(float(m.values.max()) for m in maps) if top is None else top
    scale = Scale(low, max(top, low + 1e-3), low)
    shown = rows_shown([m.values for m in maps], scale, marked, positions, rows)
    with style():
        bar = f"p({escape(answer.strip())})" if answer else "p(answer)"
        draw(maps, scale, bar, sheet=sheet, rows=shown)
        clean = "" if high is None else f"clean {probability(high)}, "
        caption = [f"{bar}: {clean}corrupted {probability(low)}", *joint(positions or ())]
        sheet.headline(title or f"Impact of restoring {names} after corrupted input", caption)
    return sheet.finish()


def _map(
    kind: str | None,
    values: np.ndarray,
    rows: list[str],
    marked: list[int],
    window: int,
    model: str,
    several: bool,
) -> Map:
    """One kind's map, with what was restored below it."""
    x_label = centre_of(window, values.shape[1], f"restored {short_words(kind)}")
    if kind is None:
        x_label = "single restored layer" + (f" within {model_name(model)}" if model else "")
    columns = [str(i) for i in range(values.shape[1])]
    panel = capital(short_words(kind)) if several else ""
    return Map(values, rows, columns, family(kind), panel, x_label, first=marked)


def rows_named(
    tokens: Sequence[str], subject: Collection[int] | None, positions: Sequence[int | str] | None = None
) -> list[str]:
    """The labels of the rows of a map: tokens, and in a long map, or of spans, where each stands in the prompt."""
    names = token_labels(tokens, subject)
    at = range(len(tokens)) if positions is None else positions
    numbered = len(tokens) > MOST or joint(at)
    return [f"{i} {name}" for i, name in zip(at, names, strict=True)] if numbered else names


def rows_shown(
    values: Sequence[np.ndarray],
    scale: Scale,
    marked: list[int],
    positions: Sequence[int | str] | None,
    asked: Any,
) -> Rows:
    """Which rows of maps `[tokens, layers]` on one scale are shown; the marked ones in any case."""
    labels = list[int | str](range(len(values[0])) if positions is None else positions)
    together = np.concatenate(values, axis=1)
    keep = [labels[i] for i in marked]
    return matter(
        together, asked, white=scale.white, low=scale.low, high=scale.high, keep=keep, labels=labels
    )


def severed(
    traces: Mapping[str | None, Traced], path: str | os.PathLike | None = None, **look: Unpack[Look]
) -> Figure:
    """Figure 3 of Meng et al. (2022): one token's indirect effects by layer, as it is and with a path cut.

    Args:
        traces: `{None: trace, "attn": trace, "mlp": trace}`, by what was severed, of one position each.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        look: `ax=` or `fig=` to draw on, `caption=False`.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when there is no trace under None, what cannot be drawn on, or the path cannot be written.

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
    sheet = Sheet(path, **look)
    if None not in traces:
        raise InputError(f"traces holds the trace with nothing severed under None; it has {list(traces)}")
    with style():
        layers = len(traces[None].scores[-1])
        sheet.open(float(np.clip(2.4 + 0.1 * len(traces) * layers, 7.0, 13.5)), 2.9)
        ax: Any = sheet.axes()[0, 0]
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
        plain_axes(ax)
        legend(ax, sheet.ax is not None)
        token, prompt = (
            quoted(text_at(trace.positions[-1], trace.tokens.__getitem__)),
            elided(trace.prompt, int(28 * sheet.inches[0])),
        )
        sheet.headline(
            f"Effect of layer outputs at {token} with attention or MLPs severed", [f"prompt: {prompt}"]
        )
    return sheet.finish()


def comparison(
    result: ComparedTraces, path: str | os.PathLike | None = None, rows: Any = "auto", **look: Unpack[Look]
) -> Figure:
    """The same trace on two models side by side, on one colour scale.

    Args:
        result: what `compare_bits` returns.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        rows: which positions are shown: "auto", of many those that matter, which is said; "all"; or positions.
        look: `fig=` to draw on, `caption=False`.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: for rows that are not there, what cannot be drawn on, or a path that cannot be written.

    Example:
        >>> from mlxtrace import InterpretableModel, plotting
        >>> model = InterpretableModel("demo")
        >>> options = {"positions": "subject_last", "samples": 1, "progress": False}
        >>> result = model.compare_bits("The Eiffel Tower is in", "Eiffel Tower", 4, **options)
        >>> [axis.get_title() for axis in plotting.comparison(result).axes[:2]]
        ['demo', '4 bits']
    """
    sheet = Sheet(path, **look)
    first = result.first
    subject = first.subject_range or range(0)
    inside = [i for i, p in enumerate(first.positions) if p in subject]
    names = [text_at(p, first.tokens.__getitem__) for p in first.positions]
    labels = rows_named(names, inside, first.positions)
    marked = sorted({*inside, len(labels) - 1})
    columns = [str(layer) for layer in range(first.scores.shape[1])]
    maps = [
        Map(trace.scores, labels, columns, family(trace.kind), model_name(name), first=marked)
        for name, trace in zip(result.names, (first, result.second), strict=True)
    ]
    low, top = first.low_score, max(float(m.values.max()) for m in maps)
    scale = Scale(low, max(top, low + 1e-3), low)
    shown = rows_shown([m.values for m in maps], scale, marked, first.positions, rows)
    with style():
        label = f"p({escape(first.answer.text.strip())})"
        draw(maps, scale, label, "layer", sheet=sheet, rows=shown)
        caption = (
            f"correlation {result.correlation:z.4f}, largest difference {result.largest_difference:z.4f}"
        )
        sheet.headline(f"Impact of restoring {short_words(first.kind)}", [caption])
    return sheet.finish()
