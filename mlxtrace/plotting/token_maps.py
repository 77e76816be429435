"""Maps with a token in each cell: logit lenses (layers upwards, tokens across) and patchscopes (layer by layer)."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .colours import FRAME, ink
from .heatmaps import Scale
from .kit import (
    InputError,
    checked,
    escape,
    family,
    finished,
    headline,
    style,
    ticks,
    token_label,
    token_labels,
)
from .labels import probability, quoted, words_of

MOST_ACROSS, MOST_UP = 20, 40  # columns and rows of a map whose cells have room for a token
CELL = 8  # of a token, that many narrow characters fit
HIGHEST_UNNAMED = 9.0  # inches across of a map of colours alone


class Lens(Protocol):
    """A logit lens: arrays `[layers, positions]` and `[layers, positions, k]`."""

    probabilities: np.ndarray
    prob: np.ndarray
    rank: np.ndarray
    layers: list[int]
    positions: list[int]
    answer: str
    final: float
    tokens: list[str]
    component: str
    prompt: str
    model: str

    @property
    def first(self) -> list[list[str]]: ...


class Scope(Protocol):
    """A map of patchscopes: arrays `[target layers, source layers]`."""

    prob: np.ndarray
    rank: np.ndarray
    layers: list[int]
    target_layers: list[int]
    answer: str
    answer_ids: list[int]
    base_prob: float
    component: str
    model: str

    @property
    def first(self) -> list[list[str]]: ...
    @property
    def where(self) -> list[str]: ...


def ending(prompt: str, most: int = 160) -> str:
    """A prompt, or as much of its end as a caption or a table has room for."""
    return prompt if len(prompt) <= most else f"… {prompt[-most:]}"


def lens_title(component: str) -> str:
    """What a lens of a component is, in words."""
    return f"the {words_of(component)} of each layer, read by the model's final norm and head"


def lens(result: Lens, path: str | os.PathLike | None = None, of: str = "top") -> Figure:
    """A logit lens as a map, layers upwards and tokens across, with the likeliest token in each cell that has room.

    Args:
        result: a `LogitLens`.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        of: whose probability the colour is: "top", the likeliest token's, or "answer", the answer's.

    Returns:
        A matplotlib Figure; cells in which the answer is the likeliest token are framed.

    Raises:
        InputError: `of` is neither, or the path cannot be written.
    """
    path = checked(path)
    if of not in ("top", "answer"):
        raise InputError(f'of={of!r}: the colour is the probability of the "top" token or of the "answer"')
    values = result.probabilities[..., 0] if of == "top" else result.prob
    whose = "p(likeliest token)" if of == "top" else f"p({escape(result.answer.strip())})"
    columns = token_labels(result.tokens, None, result.positions)
    known = Cells(values, result.first, result.rank == 0, [str(i) for i in result.layers], columns)
    with style():
        fig, framed = _draw(known, family(result.component), whose, "layer", "token")
        said = f"{quoted(result.answer)} {probability(result.final)}"
        caption = [f"{result.model}: {ending(result.prompt)} → {said}", *_explained(framed, result.answer)]
        headline(fig, f"Logit lens: {lens_title(result.component)}", caption)
    return finished(fig, path)


def scope(result: Scope, path: str | os.PathLike | None = None) -> Figure:
    """Patchscopes as a map: the layer that is read across, the layer that is written upwards; the colour is p(answer).

    Args:
        result: a `PatchscopeMap`.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.

    Returns:
        A matplotlib Figure, with the likeliest token in each cell that has room, framed where it is the answer.

    Raises:
        InputError: the path cannot be written.
    """
    path = checked(path)
    rows, columns = [str(i) for i in result.target_layers], [str(i) for i in result.layers]
    known = Cells(result.prob, result.first, result.rank == 0, rows, columns)
    with style():
        whose = f"p({escape(result.answer.strip())})"
        fig, framed = _draw(known, family(result.component), whose, "target layer", "source layer")
        unpatched = f"{whose} of the target prompt as it is: {probability(result.base_prob)}"
        caption = [*result.where, unpatched, *_explained(framed, result.answer, len(result.answer_ids))]
        what = f"the {words_of(result.component)} of a token of one prompt, put into another"
        headline(fig, f"Patchscope on {result.model}: {what}", caption)
    return finished(fig, path)


class Spoken(Protocol):
    """One patchscope: the likeliest next tokens, patched and as it is."""

    text: str
    generated: list[int]
    model: str

    @property
    def top(self) -> list[tuple[str, float]]: ...
    @property
    def base_top(self) -> list[tuple[str, float]]: ...
    @property
    def lines(self) -> list[str]: ...


def said(result: Spoken, path: str | os.PathLike | None = None) -> Figure:
    """The likeliest next tokens of one patchscope as bars: with the patch, and of the target prompt as it is.

    Args:
        result: a `Patchscope`.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: the path cannot be written.
    """
    path = checked(path)
    with style():
        fig = Figure(figsize=(6.4, 1.3 + 0.24 * len(result.top)), layout="constrained")
        parts = (("patched", result.top, ink(0.75)), ("as it is", result.base_top, ink(0.4)))
        for ax, (title, top, colour) in zip(fig.subplots(1, 2, sharex=True), parts, strict=True):
            ax.barh(range(len(top)), [p for _, p in top], color=colour, height=0.7)
            ax.set_yticks(range(len(top)), [token_label(token) for token, _ in top])
            ax.invert_yaxis()
            ax.set(xlim=(0, 1), title=title, xlabel="probability")
            ax.spines[["top", "right"]].set_visible(False)
        headline(fig, f"Patchscope on {result.model}: the next token", result.lines)
    return finished(fig, path)


def _explained(framed: bool, answer: str, tokens: int = 1) -> list[str]:
    said = (
        f"each token of {quoted(answer)} is the likeliest"
        if tokens > 1
        else f"{quoted(answer)} is the likeliest token"
    )
    return [f"framed: {said}"] if framed else []


# ---- the map


class Cells(NamedTuple):
    """What is drawn: a probability and a token in each cell, first row at the bottom; which cells are framed."""

    values: np.ndarray
    tokens: Sequence[Sequence[str]]
    framed: np.ndarray
    rows: list[str]
    columns: list[str]


def _draw(known: Cells, colours: str, whose: str, y_label: str, x_label: str) -> tuple[Figure, bool]:
    """The map, and whether any cell is framed."""
    n_rows, n_columns = known.values.shape
    named = n_columns <= MOST_ACROSS and n_rows <= MOST_UP
    across = 0.62 * n_columns if named else np.clip(0.2 * n_columns, 2.2, HIGHEST_UNNAMED)
    upright = x_label == "token" and (not named or max(map(_width, known.columns)) > CELL)
    height = np.clip(0.22 * n_rows, 1.3, 9.0) + (1.0 if upright else 0.4)
    fig = Figure(figsize=(max(across, 2.6) + 1.6, height + 1.1), layout="constrained")
    ax = fig.subplots()
    scale = Scale(0.0, max(float(known.values.max()), 1e-3), 0.0)
    mesh = ax.pcolormesh(
        known.values,
        cmap=scale.colours(colours),
        norm=Normalize(0, scale.high),
        edgecolors="face",
        linewidth=0.2,
    )
    ticks(ax.yaxis, known.rows, most=int(6 * height), offset=0.5)
    ticks(ax.xaxis, known.columns, most=int(across * 6) if not named else 200, offset=0.5)
    ax.tick_params(axis="x", rotation=90 if upright else 0)
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    framed = named and bool(known.framed.any())
    if named:
        _name(ax, known, scale.high)
    bar = fig.colorbar(mesh, ax=ax, pad=0.02, aspect=height / 0.16, label=whose)
    bar.outline.set_visible(False)
    return fig, framed


def _name(ax: Any, known: Cells, high: float) -> None:
    """The token of each cell, white on dark colours; frames."""
    for (i, j), value in np.ndenumerate(known.values):
        text = _fitted(str(known.tokens[i][j]))
        colour = "white" if value > 0.6 * high else "0.1"
        ax.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=6.5, color=colour, clip_on=True)
        if known.framed[i, j]:
            ax.add_patch(
                Rectangle((j + 0.03, i + 0.05), 0.94, 0.9, fill=False, edgecolor=FRAME, linewidth=1.2)
            )


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _fitted(token: str) -> str:
    """A token as a label that fits its cell."""
    text = token_label(token)
    if _width(text) <= CELL:
        return text
    kept = ""
    for c in text:
        if _width(kept + c) > CELL - 1:
            break
        kept += c
    return kept.removesuffix("\\") + "…"
