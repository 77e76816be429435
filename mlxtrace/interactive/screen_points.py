"""A screen to look around in: each cell that was run is a point, and hovering names it."""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np

from .toolbox import (
    AUDIT,
    THRESHOLD,
    VERIFIED,
    checked,
    dress,
    finished,
    plotly,
    safe,
    token,
    words_of_metric,
)

WHERE = ("component", "layer", "head", "neuron", "position", "token", "region")  # of a cell, in this order


class Screened(Protocol):
    """A screen, as it is drawn."""

    metric: str
    verify: int
    estimates: np.ndarray
    rows: list[dict[str, Any]]
    ranks: list[int]

    @property
    def effects(self) -> np.ndarray: ...
    @property
    def threshold(self) -> float: ...
    @property
    def sentence(self) -> str: ...


def screen(found: Screened, path: str | os.PathLike | None = None) -> Any:
    """Estimates across, exact effects upwards: a point for each cell that was run, with its name.

    Args:
        found: what `screen` returns.
        path: an .html file to write as well.

    Returns:
        A plotly Figure.

    Raises:
        InputError: for what the result does not have, or a path that cannot be written.
        UnsupportedError: without plotly.

    Example:
        >>> from mlxtrace import InterpretableModel, interactive
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> options = {"component": "head", "metric": "logit_diff", "verify": 9, "audit": 0, "progress": False}
        >>> interactive.screen(model.screen(*prompts, layers=[9], **options)).data[-1].name
        'verified (9)'
    """
    path = checked(path)
    go, linear = plotly().graph_objects, max(found.threshold / 10, 1e-9)
    most = max(float(np.abs(np.append(found.effects, found.estimates)).max(initial=0.0)), 2 * linear)
    end = 1.05 * float(np.arcsinh(1.3 * most / linear))
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(x=[-end, end], y=[-end, end], mode="lines", line={"color": "#bbb", "width": 1},
                   name="estimate = effect", hoverinfo="skip")
    )  # fmt: skip
    parts = (
        (VERIFIED, "verified", slice(None, found.verify)),
        (AUDIT, "audit, at random", slice(found.verify, None)),
    )
    for colour, name, cells in reversed(parts):
        figure.add_trace(_points(found, cells, linear, colour, name))
    for sign in (-1, 1):
        height = sign * float(np.arcsinh(found.threshold / linear))
        figure.add_hline(height, line={"color": THRESHOLD, "width": 1, "dash": "dash"})
    words = safe(words_of_metric(found.metric))
    ticks, texts = _ticks(linear, most)
    axis = {
        "tickvals": ticks,
        "ticktext": texts,
        "range": [-end, end],
        "gridcolor": "#e5e5e5",
        "zeroline": False,
    }
    figure.update_xaxes(**axis, title_text=f"estimate by gradient (a guess), {words}")
    figure.update_yaxes(**axis, title_text=f"effect on the {words}, exact", automargin=True)
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"})
    scale = f"dashed: the threshold, the tenth strongest verified; axes are logarithmic beyond ±{linear:.2g}"
    title = "Screen: what gradients guess, and what patching does"
    return finished(dress(figure, title, [found.sentence, scale], 480, True, below=70), path)


def _points(found: Screened, cells: slice, linear: float, colour: str, name: str) -> Any:
    x, y = found.estimates[cells], found.effects[cells]
    texts = [
        f"{_named(row)}<br>effect <b>{effect:.4g}</b>, exact<br>estimate {guess:.4g}, place {rank} of the ranking"
        for row, effect, guess, rank in zip(found.rows[cells], y, x, found.ranks[cells], strict=True)
    ]
    return plotly().graph_objects.Scatter(
        x=np.arcsinh(x / linear),
        y=np.arcsinh(y / linear),
        mode="markers",
        marker={"color": colour, "size": 6, "opacity": 0.75},
        name=f"{name} ({len(x)})",
        hovertext=texts,
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _named(row: dict[str, Any]) -> str:
    """A cell in words: "head, layer 9, head 3, position 4 ·Tower"."""
    parts = []
    for name in WHERE:
        if row.get(name) is None:
            continue
        value = token(str(row[name])) if name == "token" else safe(str(row[name]))
        parts.append(value if name in ("component", "token") else f"{name} {value}")
    return ", ".join(parts)


def _ticks(linear: float, most: float) -> tuple[list[float], list[str]]:
    """Powers of ten and 0, where they stand on an axis that is linear near 0, and their texts."""
    powers = 10.0 ** np.arange(np.ceil(np.log10(3 * linear)), np.log10(most) + 0.01)
    values = [*(-powers[::-1]).tolist(), 0.0, *powers.tolist()]
    return np.arcsinh(np.array(values) / linear).tolist(), [f"{value:g}" for value in values]
