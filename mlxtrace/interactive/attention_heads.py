"""Where many heads look: a map for each head with a slider, all as small maps, or all heads from one token."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ..plotting.arrays import labels_of, numbers
from .toolbox import (
    Hover,
    InputError,
    Map,
    Scale,
    checked,
    facets,
    finished,
    numbered,
    short,
    slides,
    tokens_that_fit,
)

VIEWS = ("head", "token", "all")
HOVERS = {
    "head": Hover("from (query)", "to (key)", "attention"),
    "token": Hover("head", "to (key)", "attention"),
}


def attention(
    patterns: Any,
    tokens: Sequence[str],
    heads: Sequence[Any] | None = None,
    path: str | os.PathLike | None = None,
    *,
    view: str = "head",
    rows: Any = "auto",
    keys: Any = "auto",
    title: str = "Attention patterns",
    subject_range: Collection[int] | None = None,
) -> Any:
    """Where many heads look: hovering gives the head, the query token, the key token and the weight.

    Args:
        patterns: `[heads, T, T]`, or `[T, T]`: a row for each query token, which sums to 1.
        tokens: the prompt's `T` tokens, as texts.
        heads: the heads' names, such as `["9.0", "9.6"]`; default: 0, 1, 2, ...
        path: an .html file to write as well: self-contained.
        view: "head", one head at a time with a slider; "all", small maps beside each other; "token", all heads from
            one query token, with a slider over the tokens.
        rows: which queries are shown: "auto", all, or the last that a file holds; "all"; or positions such as
            `range(400, 500)` or `[-1]`.
        keys: which keys: the same, and with "auto" the first token in any case.
        title: above the maps.
        subject_range: positions to mark with `*`.

    Returns:
        A plotly Figure.

    Raises:
        InputError: when the array, the tokens and the heads do not fit, or the path cannot be written.
        UnsupportedError: without plotly: pip install plotly.

    Example:
        >>> from mlxtrace import InterpretableModel, interactive
        >>> model = InterpretableModel("demo")
        >>> prompt = "The Eiffel Tower is in"
        >>> _, cache = model.run_with_cache(prompt, ["layers.3.pattern"])
        >>> figure = interactive.attention(cache["layers.3.pattern"][0], model.to_str_tokens(prompt))
        >>> [step.label for step in figure.layout.sliders[0].steps][:2]
        ['head 0', 'head 1']
    """
    path = checked(path)
    if view not in VIEWS:
        raise InputError(f"view={view!r} is none of {', '.join(map(repr, VIEWS))}")
    patterns, tokens = _whole(patterns, tokens), list(tokens)
    names = [f"head {short(head)}" for head in labels_of("heads", heads, len(patterns))]
    if len(set(names)) < len(names):
        raise InputError(f"each head has a name of its own; heads= has some twice: {list(heads or ())}")
    queries, looked, said = tokens_that_fit(patterns, rows, keys)
    patterns = patterns[:, queries][:, :, looked]
    labels, columns = (numbered(tokens, shown, subject_range) for shown in (queries, looked))
    scale = Scale(0.0, max(float(patterns.max()), 1e-9), 0.0)
    if view == "token":
        hover = HOVERS["token"]
        maps = [
            Map(values, names, columns, "attn", f"from {label}")
            for values, label in zip(patterns.transpose(1, 0, 2), labels, strict=True)
        ]
        figure = slides(maps, scale, hover, title, said, "looked at (key)", first=len(maps) - 1)
        return finished(figure, path)
    maps = [Map(values, labels, columns, "attn", name) for values, name in zip(patterns, names, strict=True)]
    draw = facets if view == "all" or len(maps) == 1 else slides
    return finished(
        draw(maps, scale, HOVERS["head"], title, said, "looked at (key)", "looking (query)"), path
    )


def _whole(patterns: Any, tokens: Any) -> np.ndarray:
    """As float64 `[heads, T, T]`."""
    if (
        isinstance(tokens, str)
        or not isinstance(tokens, Sequence)
        or not all(isinstance(x, str) for x in tokens)
    ):
        raise InputError("tokens are a list of the prompt's tokens, as model.to_str_tokens(prompt) has them")
    rule = f"patterns must be [heads, {len(tokens)}, {len(tokens)}], as there are {len(tokens)} tokens"
    found = numbers(patterns, rule)
    found = found[None] if found.ndim == 2 else found
    if found.ndim == 4 and len(found) == 1:  # a batch of one prompt
        found = found[0]
    if found.ndim != 3 or found.shape[1:] != (len(tokens), len(tokens)) or not found.size:
        raise InputError(f"{rule}; got {list(np.shape(patterns))}")
    return found
