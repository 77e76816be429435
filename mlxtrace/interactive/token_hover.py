"""Logit lenses and patchscopes to look around in: a cell's likeliest tokens are in the hover."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..plotting import token_maps
from .toolbox import (
    FRAME,
    InputError,
    Scale,
    checked,
    colour_scale,
    dress,
    family,
    finished,
    model_name,
    numbered,
    plotly,
    probability,
    prompts,
    quoted,
    short,
    token,
    words_of,
)

NAMED = (24, 60)  # columns and rows of a map whose cells have room for a token
TEXTS = 30_000  # tokens in the hovers of one figure, so that its file stays below 6 MB
ROW = 17


class Lens(token_maps.Lens, Protocol):
    """A logit lens with all its likeliest tokens."""

    @property
    def top(self) -> list[list[list[tuple[str, float]]]]: ...


class Cells(NamedTuple):
    """A map of probabilities, with lines of text for each cell, and which cells are marked."""

    values: np.ndarray
    lines: list[list[list[str]]]
    first: list[list[str]]
    marked: np.ndarray
    rows: list[str]
    columns: list[str]


def lens(result: Lens, path: str | os.PathLike | None = None, *, of: str = "top", rows: Any = "auto") -> Any:
    """A logit lens: layers upwards, tokens across; hovering gives the likeliest tokens and the answer's probability.

    Args:
        result: a `LogitLens`.
        path: an .html file to write as well.
        of: whose probability the colour is: "top", the likeliest token's, or "answer", the answer's.
        rows: tokens that are shown: "auto", all, or the last that a file holds; "all"; or a range of positions.

    Returns:
        A plotly Figure.

    Raises:
        InputError: for what the result does not have, or a path that cannot be written.
        UnsupportedError: without plotly.

    Example:
        >>> from mlxtrace import InterpretableModel, interactive
        >>> model = InterpretableModel("demo")
        >>> lens = model.logit_lens("The Eiffel Tower is in the city of", k=3)
        >>> str(interactive.lens(lens).data[0].customdata[-1, -1][0])
        '·Paris 1.00'
    """
    path = checked(path)
    if of not in ("top", "answer"):
        raise InputError(f'of={of!r}: the colour is the probability of the "top" token or of the "answer"')
    answer = short(result.answer)
    shown, cut = _positions(result, rows)
    columns = numbered(result.tokens, [result.positions[j] for j in shown], None)
    top = result.top
    lines = [
        [
            [
                *(f"{token(text, 18)} {probability(p)}" for text, p in top[i][j]),
                f"p({answer}) {probability(float(result.prob[i, j]))}, rank {int(result.rank[i, j])}",
            ]
            for j in shown
        ]
        for i in range(len(result.layers))
    ]
    values = (result.probabilities[..., 0] if of == "top" else result.prob)[:, shown]
    first = [[row[j][0][0] for j in shown] for row in top]
    cells = Cells(values, lines, first, result.rank[:, shown] == 0, [str(i) for i in result.layers], columns)
    whose = "p(likeliest token)" if of == "top" else f"p({answer})"
    said = f"{quoted(result.answer)} {probability(result.final)}"
    caption = [*prompts([(model_name(result.model), f"{result.prompt} → {said}")]), *cut]
    figure = _map(cells, family(result.component), whose, ("layer", "token"))
    mark = f"frames: {quoted(result.answer)} is the likeliest token"
    title = f"Logit lens: {token_maps.lens_title(result.component)}"
    return finished(_dressed(figure, cells, title, caption, mark), path)


def _positions(result: Lens, rows: Any) -> tuple[list[int], list[str]]:
    """The columns that are shown, and what is said of the others."""
    n, each = len(result.positions), len(result.layers) * (result.probabilities.shape[-1] + 1)
    if isinstance(rows, str) and rows in ("auto", "all"):
        most = n if rows == "all" else max(1, TEXTS // each)
        shown = list(range(max(0, n - most), n))
    else:
        wanted = _wanted(rows)
        last = len(result.tokens)
        asked = {p + last if p < 0 else p for p in wanted}
        if odd := sorted(asked - set(result.positions)):
            raise InputError(f"rows={rows!r}: there is no position {odd[0]} in this lens")
        shown = [j for j, position in enumerate(result.positions) if position in asked]
    if not shown:
        raise InputError(f"rows={rows!r} names no position of this lens")
    left = n - len(shown)
    return shown, [f'{left} of {n} positions are not shown; rows="all" has them'] if left else []


def _wanted(rows: Any) -> list[int]:
    listed = list(rows) if isinstance(rows, Iterable) and not isinstance(rows, str) else [rows]
    if not all(isinstance(row, int | np.integer) for row in listed):
        raise InputError(
            f'rows={rows!r}: give "auto", "all", or positions such as range(400, 500) or [3, -1]'
        )
    return [int(row) for row in listed]


def _map(cells: Cells, colours: str, whose: str, names: tuple[str, str]) -> Any:
    """The map, its first row at the bottom, with a token in each cell where there is room."""
    go, scale = plotly().graph_objects, Scale(0.0, max(float(cells.values.max()), 1e-3), 0.0)
    n = len(cells.lines[0][0])
    said = "<br>".join(f"%{{customdata[{k}]}}" for k in range(n))
    roomy = cells.values.shape[1] <= NAMED[0] and cells.values.shape[0] <= NAMED[1]
    heatmap = go.Heatmap(
        z=np.ascontiguousarray(cells.values, np.float32),
        x=cells.columns,
        y=cells.rows,
        coloraxis="coloraxis",
        customdata=np.array(cells.lines, object),
        hovertemplate=f"{names[0]} <b>%{{y}}</b>, {names[1]} <b>%{{x}}</b><br>{said}<extra></extra>",
        text=[[token(text, 9) for text in row] for row in cells.first] if roomy else None,
        texttemplate="%{text}" if roomy else None,
        textfont={"size": 10},
    )
    figure = go.Figure(heatmap)
    figure.update_layout(shapes=_frames(cells.marked))
    plain = {"showgrid": False, "zeroline": False, "automargin": True, "type": "category", "ticks": ""}
    figure.update_xaxes(**plain, categoryorder="array", categoryarray=cells.columns, title_text=names[1])
    figure.update_yaxes(**plain, categoryorder="array", categoryarray=cells.rows, title_text=names[0])
    bar = {"thickness": 11, "outlinewidth": 0, "title": {"text": whose, "side": "right"}}
    axis = {"cmin": 0.0, "cmax": scale.high, "colorscale": colour_scale(scale, colours), "colorbar": bar}
    figure.update_layout(coloraxis=axis)
    return figure


def _frames(marked: np.ndarray) -> list[dict[str, Any]]:
    """A frame around each marked cell; neighbours of a row share one, so that a file stays small."""
    found = []
    for i, row in enumerate(marked):
        edges = np.flatnonzero(np.diff([False, *row.tolist(), False]))
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            place = {"x0": start - 0.47, "x1": end - 0.53, "y0": i - 0.44, "y1": i + 0.44}
            found.append({"type": "rect", **place, "line": {"color": FRAME, "width": 1.5}})
    return found


def _dressed(figure: Any, cells: Cells, title: str, caption: Sequence[str], mark: str) -> Any:
    height = float(np.clip(ROW * len(cells.rows), 150, 1100))
    marks = [mark] if cells.marked.any() else []
    return dress(figure, title, [*caption, *marks], height, below=110, right=90)


class Scope(token_maps.Scope, Protocol):
    """A map of patchscopes, with the likeliest token's probability."""

    probabilities: np.ndarray


def patchscope_map(result: Scope, path: str | os.PathLike | None = None) -> Any:
    """Patchscopes: the layer that is read across, the layer that is written upwards; the colour is p(answer).

    Args:
        result: a `PatchscopeMap`.
        path: an .html file to write as well.

    Returns:
        A plotly Figure.

    Raises:
        InputError: for what the result does not have, or a path that cannot be written.
        UnsupportedError: without plotly.

    Example:
        >>> from mlxtrace import InterpretableModel, interactive
        >>> model = InterpretableModel("demo")
        >>> scope = model.patchscope_map("The Louvre is in the city of", layers=[0, 8], target_layers=8, progress=False)
        >>> interactive.patchscope_map(scope).data[0].z.shape
        (1, 2)
    """
    path = checked(path)
    answer, first = short(result.answer), result.first
    rows, columns = [str(i) for i in result.target_layers], [str(i) for i in result.layers]
    lines = [
        [
            [
                f"p({answer}) <b>{probability(float(result.prob[i, j]))}</b>, rank {int(result.rank[i, j])}",
                f"likeliest {token(first[i][j], 18)} {probability(float(result.probabilities[i, j]))}",
            ]
            for j in range(len(columns))
        ]
        for i in range(len(rows))
    ]
    cells = Cells(result.prob, lines, first, result.rank == 0, rows, columns)
    figure = _map(cells, family(result.component), f"p({answer})", ("target layer", "source layer"))
    unpatched = f"p({result.answer.strip()}) of the target prompt as it is: {probability(result.base_prob)}"
    several = len(result.answer_ids) > 1
    mark = f"frames: {'each token of ' if several else ''}{quoted(result.answer)} is the likeliest"
    title = f"Patchscope on {model_name(result.model)}: the {words_of(result.component)} of a token in another prompt"
    return finished(_dressed(figure, cells, title, [*result.where, unpatched], mark), path)


def patchscope(result: token_maps.Spoken, path: str | os.PathLike | None = None) -> Any:
    """The likeliest next tokens of one patchscope as bars: with the patch, and of the target prompt as it is.

    Args:
        result: a `Patchscope`.
        path: an .html file to write as well.

    Returns:
        A plotly Figure.

    Raises:
        InputError: for what the result does not have, or a path that cannot be written.
        UnsupportedError: without plotly.

    Example:
        >>> from mlxtrace import InterpretableModel, interactive
        >>> model = InterpretableModel("demo")
        >>> scope = model.patchscope("The Eiffel Tower is in the city of", "layers.8", max_tokens=1)
        >>> [note.text for note in interactive.patchscope(scope).layout.annotations]
        ['patched', 'as it is']
    """
    path = checked(path)
    titles = ["patched", "as it is"]
    figure = plotly().subplots.make_subplots(rows=1, cols=2, shared_xaxes="all", subplot_titles=titles)
    for i, (top, colour) in enumerate(((result.top, "#444"), (result.base_top, "#999"))):
        names = [f"{k + 1}  {token(text)}" for k, (text, _) in enumerate(top)]
        figure.add_bar(
            x=[p for _, p in top],
            y=names,
            orientation="h",
            marker={"color": colour},
            hovertext=[f"{token(text, 60)} <b>{p:.4f}</b>, {titles[i]}" for text, p in top],
            hovertemplate="%{hovertext}<extra></extra>",
            row=1,
            col=i + 1,
        )
    figure.update_xaxes(range=[0, 1], title_text="probability", gridcolor="#e5e5e5")
    figure.update_yaxes(autorange="reversed", type="category", automargin=True)
    figure.update_layout(showlegend=False)
    title = f"Patchscope on {model_name(result.model)}: the next token"
    return finished(dress(figure, title, result.lines, 24 * len(result.top), True), path)
