"""Maps of paths: senders down and receivers across, or the strongest edges down and tokens across."""

from __future__ import annotations

import os
from typing import Any, Protocol, Unpack

import numpy as np
from matplotlib.figure import Figure

from .charts import Look, Sheet, style, token_labels
from .heatmaps import Map, Scale, draw, hatching_explained

FEW = 12  # rows or columns that are all shown
NOTHING = 1e-9  # an effect that is none
LEAST = 0.01  # of the strongest effect: weaker rows and columns are left out


class Paths(Protocol):
    """A result of path patching."""

    senders: list[str]
    receivers: list[str]
    metrics: list[str]
    tokens: list[str]
    subject_range: range | None
    positions: list[int] | None
    regions: list[str] | None
    direction: str

    @property
    def title(self) -> str: ...
    @property
    def edge(self) -> np.ndarray: ...
    @property
    def effect(self) -> np.ndarray: ...
    @property
    def runs(self) -> list[tuple[str, str]]: ...


def path_map(
    result: Paths, path: str | os.PathLike | None = None, most: int = 40, **look: Unpack[Look]
) -> Figure:
    """The effects of paths as a map; what is no edge is grey.

    Args:
        result: what `path_patching` returns.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        most: rows and columns that are shown at most: those with the strongest edges.
        look: `ax` or `fig` to draw on, and `caption`, as in every plot.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when the path cannot be written.

    Example:
        >>> from mlxtrace import InterpretableModel, plotting
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> result = model.path_patching(*prompts, senders="mlp", receivers=["m11", "logits"], progress=False)
        >>> plotting.path_map(result).axes[0].get_ylabel()
        'sender'
    """
    sheet = Sheet(path, **look)
    first, half = (
        _first_metric(result, x) for x in (result.effect, getattr(result, "effect_interval", None))
    )
    with style():
        by_place = first.ndim == 3
        one, left_out = (_by_place if by_place else _by_receiver)(result, first, half, most)
        shown = np.nan_to_num(one.values)
        ends = min(shown.min(), 0.0) + 0.0, max(shown.max(), 0.0)
        scale = Scale(*(ends if max(-ends[0], ends[1]) > NOTHING else (0.0, 1e-3)), 0.0)
        base = "clean" if result.direction == "noise" else "corrupted"
        label = f"change of {result.metrics[0]}\n(patched - {base} run)"
        across = ("region" if result.regions is not None else "token") if by_place else "receiver"
        draw([one], scale, label, across, "path" if by_place else "sender", upright=True, sheet=sheet)
        grey = (
            ["grey: no edge, as the receiver comes before the sender"] if np.isnan(one.values).any() else []
        )
        caption = [f"{run}: {said}" for run, said in result.runs]
        caption += [*grey, *left_out, *hatching_explained([one], scale)]
        sheet.headline(result.title, caption)
    return sheet.finish()


def _first_metric(result: Paths, values: np.ndarray | None) -> Any:
    return values[0] if values is not None and len(result.metrics) > 1 else values


def _strongest(size: np.ndarray, most: int) -> np.ndarray:
    """The indices of the largest, in their own order; where there are many, of those that can be told from nothing."""
    chosen = np.argsort(-size, kind="stable")[:most]
    if len(size) > FEW:
        telling = size[chosen] >= LEAST * size.max(initial=0)
        chosen = chosen[telling | (np.arange(len(chosen)) < FEW)]
    return np.sort(chosen)


def _by_receiver(result: Paths, effect: np.ndarray, half: Any, most: int) -> tuple[Map, list[str]]:
    """Senders x receivers: those with an edge that is among the strongest."""
    values = np.where(result.edge, effect, np.nan)
    size = np.nan_to_num(np.abs(values))
    rows, columns = _strongest(size.max(1), most), _strongest(size.max(0), most)
    at = np.ix_(rows, columns)
    down, across = [result.senders[i] for i in rows], [result.receivers[j] for j in columns]
    one = Map(values[at], down, across, "resid", halves=None if half is None else half[at])
    left = (values.shape[0] - len(rows), values.shape[1] - len(columns))
    if not any(left):
        return one, []
    outside = np.abs(np.nan_to_num(values)).copy()
    outside[at] = 0
    return one, [
        f"not shown: {left[0]} senders and {left[1]} receivers, whose effects are at most {outside.max():.2g}"
    ]


def _by_place(result: Paths, effect: np.ndarray, half: Any, most: int) -> tuple[Map, list[str]]:
    """The strongest edges x positions or regions."""
    edges = np.argwhere(result.edge)
    values = effect[result.edge]
    size = np.abs(np.nan_to_num(values)).max(1)
    rows = _strongest(size, most)
    names = [f"{result.senders[i]} → {result.receivers[j]}" for i, j in edges[rows]]
    if result.regions is not None:
        columns = list(result.regions)
    elif result.tokens:
        columns = token_labels(result.tokens, result.subject_range, result.positions)
    else:
        columns = [str(position) for position in result.positions or []]
    one = Map(values[rows], names, columns, "resid", halves=None if half is None else half[result.edge][rows])
    left = len(values) - len(rows)
    if not left:
        return one, []
    rest = np.delete(size, rows).max()
    return one, [f"not shown: {left} paths, whose effects are at most {rest:.2g}"]
