"""Heads: a number for each, and where they look."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from ..errors import InputError
from .arrays import labels_of, matrix, numbers
from .heatmaps import Map, Scale, draw
from .kit import checked, finished, headline, style, token_labels


def head_heatmap(
    values: Any,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    label: str = "recovery (%)",
    title: str = "",
    path: str | os.PathLike | None = None,
) -> Figure:
    """A number per head, `values` `[layers, heads]`, as a map: layers down, heads across, white at 0.

    Args:
        values: `[layers, heads]`, finite numbers of any unit.
        layers, heads: the names of the rows and columns; default: 0, 1, 2, ...
        label: what the numbers are, beside the colour bar.
        title: above the map.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when the array, or the number of names, does not fit, or the path cannot be written.

    Example:
        >>> import numpy as np
        >>> from mlxtrace import plotting
        >>> figure = plotting.head_heatmap(np.eye(3), layers=[4, 5, 6], label="effect")
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['4', '5', '6']
    """
    path = checked(path)
    values = matrix(values, (None, None), "values must be [layers, heads]")
    rows = labels_of("layers", layers, values.shape[0])
    columns = labels_of("heads", heads, values.shape[1])
    scale = Scale(min(values.min(), 0), max(values.max(), 0, values.min() + 1e-9), 0)
    with style():
        fig = draw([Map(values, rows, columns, "attn", x_label="head")], scale, label, y_label="layer")
        headline(fig, title, [])
    return finished(fig, path)


def attention_pattern(
    pattern: Any,
    tokens: Sequence[str],
    *,
    heads: Sequence[int] | None = None,
    title: str = "Attention pattern",
    subject_range: range | None = None,
    path: str | os.PathLike | None = None,
) -> Figure:
    """Where heads look: a map for each head, all on one colour scale, which starts at 0.

    Args:
        pattern: `[heads, T, T]`, or `[T, T]`: a row for each query token, which sums to 1.
        tokens: the prompt's `T` tokens.
        heads: their names, for the panel titles; default: 0, 1, 2, ...
        title: above the maps.
        subject_range: positions to mark with `*`.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when the array, the tokens and the heads do not fit, or the path cannot be written.

    Example:
        >>> from mlxtrace import InterpretableModel, plotting
        >>> model = InterpretableModel("demo")
        >>> prompt = "The Eiffel Tower is in"
        >>> _, cache = model.run_with_cache(prompt, ["layers.3.pattern"])
        >>> figure = plotting.attention_pattern(cache["layers.3.pattern"][0], model.to_str_tokens(prompt))
        >>> figure.axes[0].get_title()
        'head 0'
    """
    path = checked(path)
    rule = f"pattern must be [heads, {len(tokens)}, {len(tokens)}]"
    pattern = numbers(pattern, rule)
    pattern = pattern[None] if pattern.ndim == 2 else pattern
    if pattern.ndim != 3 or pattern.shape[1:] != (len(tokens), len(tokens)) or not pattern.size:
        raise InputError(f"{rule}; got {list(pattern.shape)}")
    names = token_labels(tokens, subject_range)
    titles = [f"head {h}" for h in labels_of("heads", heads, len(pattern))]
    maps = [Map(p, names, names, "attn", t) for p, t in zip(pattern, titles, strict=True)]
    with style():
        scale = Scale(0, max(float(pattern.max()), 1e-9), 0)
        fig = draw(maps, scale, "attention", "looked at (key)", "looking (query)", upright=True)
        headline(fig, title, [])
    return finished(fig, path)
