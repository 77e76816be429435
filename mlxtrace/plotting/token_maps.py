"""Maps with a token in each cell: logit lenses (layers upwards, tokens across) and patchscopes (layer by layer)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, Unpack

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .colours import FRAME, ink
from .elided import width
from .heatmaps import MOST, Look, Map, Scale, Sheet, draw, matter
from .kit import InputError, escape, family, style, token_label, token_labels
from .labels import elided, model_name, probability, quoted, words_of

MOST_ACROSS = 20  # columns of a map whose cells have room for a token
CELL, NAMED = 8, 0.62  # narrow characters of a token in its cell, and inches that one is wide
LEAST = 4  # characters: a token cut to fewer says nothing
LETTERS = (5.0, 6.5)  # points of tokens in their cells


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


def lens(
    result: Lens,
    path: str | os.PathLike | None = None,
    of: str = "top",
    rows: Any = "all",
    **look: Unpack[Look],
) -> Figure:
    """A logit lens as a map, layers upwards and tokens across, with the likeliest token in each cell that has room.

    Args:
        result: a `LogitLens`.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        of: whose probability the colour is: "top", the likeliest token's, or "answer", the answer's.
        rows: which tokens of the prompt are shown: "all", or positions such as `range(480, 500)` or `[-2, -1]`; "auto"
            is "all", as every token is followed by something.
        look: `ax=` or `fig=` to draw on, `caption=False`.

    Returns:
        A matplotlib Figure; cells in which the answer is the likeliest token are framed.

    Raises:
        InputError: `of` is neither, or there are no such rows; nothing can be drawn on this or written there.
    """
    sheet = Sheet(path, **look)
    if of not in ("top", "answer"):
        raise InputError(f'of={of!r}: the colour is the probability of the "top" token or of the "answer"')
    values = result.probabilities[..., 0] if of == "top" else result.prob
    shown = matter(
        values.T, "all" if isinstance(rows, str) and rows == "auto" else rows, labels=result.positions
    )
    at = [result.positions[j] for j in shown.shown]
    columns = token_labels(result.tokens, None, at)
    if len(columns) > MOST or shown.cuts:
        columns = [f"{position} {name}" for position, name in zip(at, columns, strict=True)]
    tokens = [[of_layer[j] for j in shown.shown] for of_layer in result.first]
    known = Cells(
        values[:, shown.shown],
        tokens,
        (result.rank == 0)[:, shown.shown],
        [str(i) for i in result.layers],
        columns,
        [cut.at for cut in shown.cuts if 0 < cut.at < len(columns)],
    )
    sheet.said += [line.replace("rows", "tokens").replace("row ", "token ") for line in shown.said]
    with style():
        whose = "p(likeliest token)" if of == "top" else f"p({escape(result.answer.strip())})"
        names = _draw(sheet, known, family(result.component), whose, "layer", "token")
        prompt = elided(result.prompt, int(26 * sheet.inches[0]))
        ran = f"{model_name(result.model)}: {prompt} → {quoted(result.answer)} {probability(result.final)}"
        fewer = f"rows=range({max(at[-1] - 19, 0)}, {at[-1] + 1}), or layers= of the lens,"
        explained = names.explained(result.answer, 1, fewer)
        sheet.headline(f"Logit lens: {lens_title(result.component)}", [ran, *explained])
    return sheet.finish()


def scope(result: Scope, path: str | os.PathLike | None = None, **look: Unpack[Look]) -> Figure:
    """Patchscopes as a map: the layer that is read across, the layer that is written upwards; the colour is p(answer).

    Args:
        result: a `PatchscopeMap`.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        look: `ax=` or `fig=` to draw on, `caption=False`.

    Returns:
        A matplotlib Figure, with the likeliest token in each cell that has room, framed where it is the answer.

    Raises:
        InputError: nothing can be drawn on this, or the path cannot be written.
    """
    sheet = Sheet(path, **look)
    rows, columns = [str(i) for i in result.target_layers], [str(i) for i in result.layers]
    known = Cells(result.prob, result.first, result.rank == 0, rows, columns)
    with style():
        whose = f"p({escape(result.answer.strip())})"
        names = _draw(sheet, known, family(result.component), whose, "target layer", "source layer")
        unpatched = f"{whose} of the target prompt as it is: {probability(result.base_prob)}"
        fewer = "layers= of the map"
        caption = [*result.where, unpatched, *names.explained(result.answer, len(result.answer_ids), fewer)]
        what = f"the {words_of(result.component)} of a token of one prompt, put into another"
        sheet.headline(f"Patchscope on {model_name(result.model)}: {what}", caption)
    return sheet.finish()


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


def said(result: Spoken, path: str | os.PathLike | None = None, **look: Unpack[Look]) -> Figure:
    """The likeliest next tokens of one patchscope as bars: with the patch, and of the target prompt as it is.

    Args:
        result: a `Patchscope`.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        look: `fig=` to draw on, `caption=False`.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: nothing can be drawn on this, or the path cannot be written.
    """
    sheet = Sheet(path, **look)
    with style():
        sheet.open(6.4, 1.3 + 0.24 * len(result.top))
        parts = (("patched", result.top, ink(0.75)), ("as it is", result.base_top, ink(0.4)))
        for ax, (title, top, colour) in zip(sheet.axes(1, 2, sharex=True)[0], parts, strict=True):
            ax.barh(range(len(top)), [p for _, p in top], color=colour, height=0.7)
            ax.set_yticks(range(len(top)), [token_label(token) for token, _ in top])
            ax.invert_yaxis()
            ax.set(xlim=(0, 1), title=title, xlabel="probability")
            ax.spines[["top", "right"]].set_visible(False)
        sheet.headline(f"Patchscope on {model_name(result.model)}: the next token", result.lines)
    return sheet.finish()


# ---- the map


class Cells(NamedTuple):
    """What is drawn: a probability and a token in each cell, first row at the bottom; which cells are framed.

    breaks: before which columns others are left out.
    """

    values: np.ndarray
    tokens: Sequence[Sequence[str]]
    framed: np.ndarray
    rows: list[str]
    columns: list[str]
    breaks: Sequence[int] = ()


def _draw(sheet: Sheet, known: Cells, colours: str, whose: str, y_label: str, x_label: str) -> Names:
    """The map, and the names in its cells."""
    few = known.values.shape[1] <= MOST_ACROSS
    names = Names(known, max(float(known.values.max()), 1e-3))
    upright = x_label == "token" and (not few or max(map(width, known.columns)) > CELL)
    lines: Any = ((), known.breaks)
    one = Map(known.values, known.rows, known.columns, colours, lines=lines, inside=names)
    scale, cell = Scale(0.0, names.high, 0.0), NAMED if few else 0.2
    draw([one], scale, whose, x_label, y_label, upright=upright, sheet=sheet, upwards=True, cell=cell)
    return names


class Names:
    """The tokens of a map, written into its cells where they have room, white on dark colours; frames.

    known: the map. high: where its colours end.
    """

    def __init__(self, known: Cells, high: float) -> None:
        self.known, self.high, self.written = known, high, False

    def __call__(self, ax: Any, width: float, height: float) -> None:
        """Write them into cells of this many inches, or none."""
        letters = min(LETTERS[1], 72 * height / 1.25)
        most = min(CELL, int(72 * width / (0.84 * max(letters, LETTERS[0]))))
        self.written = most >= LEAST and letters >= LETTERS[0]
        if not self.written:
            return
        for (i, j), value in np.ndenumerate(self.known.values):
            colour = "white" if value > 0.6 * self.high else "0.1"
            text = _fitted(str(self.known.tokens[i][j]), most)
            place = {"ha": "center", "va": "center", "clip_on": True}
            ax.text(j + 0.5, i + 0.5, text, fontsize=letters, color=colour, **place)
            if self.known.framed[i, j]:
                frame = (j + 0.03, i + 0.05), 0.94, 0.9
                ax.add_patch(Rectangle(*frame, fill=False, edgecolor=FRAME, linewidth=1.2))

    def explained(self, answer: str, tokens: int, fewer: str) -> list[str]:
        """What the caption says of frames, or of cells without room, and how to get `fewer` of them."""
        if not self.written:
            size = " x ".join(map(str, self.known.values.shape))
            return [f"colours alone: {size} cells have no room for their tokens; {fewer} asks for fewer"]
        each = f"each token of {quoted(answer)} is the likeliest"
        said = each if tokens > 1 else f"{quoted(answer)} is the likeliest token"
        return [f"framed: {said}"] if self.known.framed.any() else []


def _fitted(token: str, most: int) -> str:
    """A token as a label that fits its cell."""
    text = token_label(token)
    if width(text) <= most:
        return text
    kept = ""
    for c in text:
        if width(kept + c) > most - 1:
            break
        kept += c
    return kept.removesuffix("\\") + "…"
