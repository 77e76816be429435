"""Heads: a number for each, and where they look."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
from matplotlib.figure import Figure

from ..errors import InputError
from .arrays import labels_of, matrix, numbers
from .heatmaps import MOST, Look, Map, Rows, Scale, Sheet, draw, matter
from .kit import style, token_labels

MAX_HEADS = 16  # panels of one figure


def head_heatmap(
    values: Any,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    label: str = "recovery (%)",
    title: str = "",
    path: str | os.PathLike | None = None,
    **look: Unpack[Look],
) -> Figure:
    """A number per head, `values` `[layers, heads]`, as a map: layers down, heads across, white at 0.

    Args:
        values: `[layers, heads]`, finite numbers of any unit.
        layers, heads: the names of the rows and columns; default: 0, 1, 2, ...
        label: what the numbers are, beside the colour bar.
        title: above the map.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        look: `ax=` or `fig=` to draw on, `caption=False`.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when the array, or the number of names, does not fit, for what cannot be drawn on, or a path that
            cannot be written.

    Example:
        >>> import numpy as np
        >>> from mlxtrace import plotting
        >>> figure = plotting.head_heatmap(np.eye(3), layers=[4, 5, 6], label="effect")
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['4', '5', '6']
    """
    sheet = Sheet(path, **look)
    values = matrix(values, (None, None), "values must be [layers, heads]")
    rows = labels_of("layers", layers, values.shape[0])
    columns = labels_of("heads", heads, values.shape[1])
    scale = Scale(min(values.min(), 0), max(values.max(), 0, values.min() + 1e-9), 0)
    with style():
        draw([Map(values, rows, columns, "attn", x_label="head")], scale, label, y_label="layer", sheet=sheet)
        sheet.headline(title, [])
    return sheet.finish()


def attention_pattern(
    pattern: Any,
    tokens: Sequence[str],
    *,
    heads: Sequence[int] | None = None,
    title: str = "Attention pattern",
    subject_range: range | None = None,
    path: str | os.PathLike | None = None,
    rows: Any = "all",
    keys: Any = "all",
    **look: Unpack[Look],
) -> Figure:
    """Where heads look: a map for each head, all on one colour scale, which starts at 0.

    Of more than 16 heads those are drawn that look furthest away from the first token and from the query itself, as
    the title says.

    Args:
        pattern: `[heads, T, T]`, or `[T, T]`: a row for each query token, which sums to 1.
        tokens: the prompt's `T` tokens.
        heads: their names, for the panel titles; default: 0, 1, 2, ...
        title: above the maps.
        subject_range: positions to mark with `*`.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        rows: which queries are shown: "all", or positions such as `range(400, 500)` or `[-1]`; "auto" is "all", as each
            query looks somewhere.
        keys: which keys: "all"; "auto", of many those that a query shown looks at, which is said; or positions.
        look: `ax=` or `fig=` to draw on, `caption=False`.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when the array, the tokens and the heads do not fit, for rows or keys that are not there, what
            cannot be drawn on, or a path that cannot be written.

    Example:
        >>> from mlxtrace import InterpretableModel, plotting
        >>> model = InterpretableModel("demo")
        >>> prompt = "The Eiffel Tower is in"
        >>> _, cache = model.run_with_cache(prompt, ["layers.3.pattern"])
        >>> figure = plotting.attention_pattern(cache["layers.3.pattern"][0], model.to_str_tokens(prompt))
        >>> figure.axes[0].get_title()
        'head 0'
    """
    sheet = Sheet(path, **look)
    rule = f"pattern must be [heads, {len(tokens)}, {len(tokens)}]"
    pattern = numbers(pattern, rule)
    pattern = pattern[None] if pattern.ndim == 2 else pattern
    if pattern.ndim != 3 or pattern.shape[1:] != (len(tokens), len(tokens)) or not pattern.size:
        raise InputError(f"{rule}; got {list(pattern.shape)}")
    titles = [f"head {h}" for h in labels_of("heads", heads, len(pattern))]
    queries, looked = _chosen(pattern, rows, keys)
    drawn = _telling(pattern, queries.shown)
    names = token_labels(tokens, subject_range)
    if len(names) > MOST or queries.cuts or looked.cuts:
        names = [f"{i} {name}" for i, name in enumerate(names)]
    columns = [names[i] for i in looked.shown]
    lines = ((), [cut.at for cut in looked.cuts if 0 < cut.at < len(columns)])
    maps = [
        Map(
            pattern[h][:, looked.shown],
            names,
            columns,
            "attn",
            titles[h],
            first=[len(names) - 1],
            lines=lines,
        )
        for h in drawn
    ]
    square = len(queries.shown) == len(columns)
    sheet.said += looked.said
    with style():
        scale = Scale(0, max(float(max(one.values[queries.shown].max() for one in maps)), 1e-9), 0)
        across, down = "looked at (key)", "looking (query)"
        draw(maps, scale, "attention", across, down, upright=True, sheet=sheet, rows=queries, square=square)
        sheet.headline(title + _of(len(drawn), len(pattern)), [])
    return sheet.finish()


def _of(shown: int, heads: int) -> str:
    return f" – {shown} of {heads} heads, which look furthest" if shown < heads else ""


def _chosen(pattern: np.ndarray, rows: Any, keys: Any) -> tuple[Rows, Rows]:
    """The queries and the keys that are shown; what the caption says of keys that are not."""
    of_queries = np.concatenate([pattern.min(0), pattern.max(0)], axis=1)
    queries = matter(of_queries, "all" if isinstance(rows, str) and rows == "auto" else rows)
    inside = pattern[:, queries.shown]
    looked = matter(np.stack([inside.min((0, 1)), inside.max((0, 1))], 1), keys, keep=[pattern.shape[2] - 1])
    said = [line.replace("rows", "keys").replace("row ", "key ") for line in looked.said]
    return queries, looked._replace(said=said)


def _telling(pattern: np.ndarray, queries: list[int]) -> list[int]:
    """Of many heads those whose attention goes least to the first token and to the query itself, in their order."""
    if len(pattern) <= MAX_HEADS:
        return list(range(len(pattern)))
    idle = pattern[:, queries, 0].sum(1) + pattern[:, queries, queries].sum(1)
    return sorted(np.argsort(idle - pattern[:, queries].sum((1, 2)), kind="stable")[:MAX_HEADS].tolist())
