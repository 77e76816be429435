"""Edges and paths to look around in: senders down, receivers or tokens across, and the ends' names in the hover."""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np

from ..plotting.edge_maps import Scored as Edges
from ..plotting.path_maps import Paths
from .toolbox import (
    Hover,
    Map,
    Scale,
    capital,
    checked,
    facets,
    finished,
    numbered,
    prompts,
    safe,
    short,
    strongest_lines,
)

MOST = 300  # senders or receivers that are shown
GREY = "grey: no edge, as the receiver comes before the sender"


class Scored(Edges, Protocol):
    """The scores of edges, with their intervals over pairs."""

    @property
    def interval(self) -> np.ndarray: ...


def edges(result: Scored, path: str | os.PathLike | None = None, *, most: int = MOST) -> Any:
    """The scores of all edges as a map: senders down, receivers across, in the order of the stream.

    Args:
        result: what `model.edges` returns.
        path: an .html file to write as well.
        most: senders and receivers that are shown at most: those with the strongest edges.

    Returns:
        A plotly Figure.

    Raises:
        InputError: for what the result does not have, or a path that cannot be written.
        UnsupportedError: without plotly.

    Example:
        >>> from mlxtrace import InterpretableModel, interactive
        >>> model = InterpretableModel("induction")
        >>> words = "hive cart chair cow cork book milk hive cart chair cow"
        >>> prompts = f"{words} cork", f"{words.replace('cork', 'coat')} cork"
        >>> figure = interactive.edges(model.edges(*prompts, progress=False), most=9)
        >>> figure.data[0].z.shape
        (9, 9)
    """
    path = checked(path)
    values = np.where(result.upstream, result.scores, np.nan)
    one, said = _strongest(values, result.interval, result.senders, result.receivers, most, "attn")
    largest = max(float(np.nan_to_num(np.abs(values)).max()), 1e-12)
    scale, hover = (
        Scale(-largest, largest, 0.0, flip=True),
        Hover("sender", "receiver", f"change of {short(result.metric)}", ".4g"),
    )
    caption = [
        "blue above 0, red below; in the order of the stream, a layer's heads before its MLP",
        GREY,
        *said,
    ]
    title = capital(result.title)
    return finished(facets([one], scale, hover, title, caption, "receiver", "sender"), path)


def _strongest(
    values: np.ndarray,
    halves: np.ndarray | None,
    down: list[str],
    across: list[str],
    most: int,
    family: str = "resid",
) -> tuple[Map, list[str]]:
    """The rows and columns with the strongest values, and what is said of the others."""
    size = np.nan_to_num(np.abs(values))
    rows, columns = strongest_lines(size.max(1), most), strongest_lines(size.max(0), most)
    at = np.ix_(rows, columns)
    one = Map(
        values[at],
        [down[i] for i in rows],
        [across[j] for j in columns],
        family,
        halves=None if halves is None else halves[at],
    )
    left = (values.shape[0] - len(rows), values.shape[1] - len(columns))
    if not any(left):
        return one, []
    size[at] = 0
    return one, [
        f"not shown: {left[0]} senders and {left[1]} receivers, whose effects are at most {size.max():.2g}"
    ]


def paths(result: Paths, path: str | os.PathLike | None = None, *, most: int = MOST) -> Any:
    """The effects of paths as a map: senders and receivers, or the strongest edges down and tokens across.

    Args:
        result: what `path_patching` returns.
        path: an .html file to write as well.
        most: senders and receivers, or edges, that are shown at most: the strongest.

    Returns:
        A plotly Figure.

    Raises:
        InputError: for what the result does not have, or a path that cannot be written.
        UnsupportedError: without plotly.

    Example:
        >>> from mlxtrace import InterpretableModel, interactive
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> result = model.path_patching(*prompts, senders="mlp", receivers=["m11", "logits"], progress=False)
        >>> interactive.paths(result).data[0].x
        ('m11', 'logits')
    """
    path = checked(path)
    base = "clean" if result.direction == "noise" else "corrupted"
    value = f"change of {short(result.metrics[0])}"
    effect, half = (_first(result, x) for x in (result.effect, getattr(result, "effect_interval", None)))
    caption = [*prompts(result.runs), f"{value}: patched less the {base} run"]
    if effect.ndim == 2:
        values = np.where(result.edge, effect, np.nan)
        one, said = _strongest(values, half, result.senders, result.receivers, most)
        hover, down = Hover("sender", "receiver", value, ".4g"), "sender"
        said = [GREY, *said] if np.isnan(one.values).any() else said
    else:
        one, said = _by_place(result, effect, half, most)
        hover, down = Hover("path", "token" if result.regions is None else "region", value, ".4g"), "path"
    shown = np.nan_to_num(one.values)
    scale = Scale(min(float(shown.min()), 0.0), max(float(shown.max()), 1e-9), 0.0)
    return finished(facets([one], scale, hover, result.title, [*caption, *said], hover.column, down), path)


def _first(result: Paths, values: Any) -> Any:
    """Of the first metric."""
    return values[0] if values is not None and len(result.metrics) > 1 else values


def _by_place(result: Paths, effect: np.ndarray, half: Any, most: int) -> tuple[Map, list[str]]:
    """The strongest edges x positions or regions."""
    ends, values = np.argwhere(result.edge), effect[result.edge]
    size = np.abs(np.nan_to_num(values)).max(1, initial=0.0)
    rows = strongest_lines(size, most)
    names = [f"{result.senders[i]} → {result.receivers[j]}" for i, j in ends[rows]]
    if result.regions is not None:
        columns = [safe(name) for name in result.regions]
    elif result.tokens:
        columns = numbered(result.tokens, result.positions or (), result.subject_range)
    else:
        columns = [str(position) for position in result.positions or ()]
    one = Map(values[rows], names, columns, "resid", halves=None if half is None else half[result.edge][rows])
    left = len(values) - len(rows)
    if not left:
        return one, []
    rest = np.delete(size, rows).max()
    return one, [f"not shown: {left} paths, whose effects are at most {rest:.2g}"]
