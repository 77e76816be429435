"""The scores of all edges as a map: senders down, receivers across, in the order of the stream."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, Protocol, Unpack

import numpy as np
from matplotlib.figure import Figure

from .charts import Look, Sheet, diverging, escape, pooled, style, tick

MOST_CELLS = 1200  # along a side: of more, some are drawn as one
HEADS = re.compile(r"[am](\d+)")


class Scored(Protocol):
    """What is drawn: the scores of edges."""

    senders: list[str]
    receivers: list[str]
    upstream: np.ndarray
    metric: str

    @property
    def scores(self) -> np.ndarray: ...
    @property
    def title(self) -> str: ...


def edge_map(edges: Scored, path: str | os.PathLike | None = None, **look: Unpack[Look]) -> Figure:
    """Draw the scores, blue above 0 and red below, grey where there is no edge.

    Args:
        edges: an `Edges`.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        look: `ax` or `fig` to draw on, and `caption`, as in every plot.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when the path cannot be written.
    """
    sheet = Sheet(path, **look)
    values = np.where(edges.upstream, edges.scores, np.nan)
    by = tuple(-(-n // MOST_CELLS) for n in values.shape)
    scores = values if by == (1, 1) else pooled(values, by, 0.0)
    most = float(np.nanmax(np.abs(scores), initial=0.0))
    most = most if most > 1e-12 else 1e-3  # nothing must not look like a finding
    with style():
        width, height = (
            float(np.clip(0.06 * n, 3.0, 11.0)) for n in (len(edges.receivers), len(edges.senders))
        )
        sheet.open(width + 1.8, min(max(height, 2.6), 8.8) + 1.0)
        ax: Any = sheet.axes()[0, 0]
        ax.set_facecolor("0.88")
        at = [
            np.minimum(np.arange(n + 1) * k, total)
            for n, k, total in zip(scores.shape, by, values.shape, strict=True)
        ]
        cells = np.ma.masked_invalid(scores)
        mesh = ax.pcolormesh(
            *at[::-1], cells, cmap=diverging("attn", flip=True), vmin=-most, vmax=most, rasterized=True
        )
        _ticks(ax.xaxis, edges.receivers)
        _ticks(ax.yaxis, edges.senders)
        ax.invert_yaxis()
        ax.set_xlabel("receiver")
        ax.set_ylabel("sender")
        bar = sheet.whole.colorbar(mesh, ax=ax, pad=0.02, label=escape(f"change of {edges.metric}"))
        bar.outline.set_visible(False)
        said = ["in the order of the stream; a layer's heads come before its MLP; grey: no edge"]
        said += [] if by == (1, 1) else [f"each spot is the strongest of {by[0]} x {by[1]} edges"]
        sheet.headline(edges.title[0].upper() + edges.title[1:], said)
    return sheet.finish()


def _ticks(axis: Any, names: Sequence[str]) -> None:
    """Every name where there is room, else the layers, where each begins."""
    upright = axis.axis_name == "x"
    if len(names) <= 40:
        tick(axis, [i + 0.5 for i in range(len(names))], names, size=6, upright=upright)
        return
    starts: dict[str, int] = {}
    for i, name in enumerate(names):
        found = HEADS.match(name)
        starts.setdefault(f"{found[1]}" if found else name, i)
    shown = [item for item in starts.items() if item != ("0", 1)]  # the embedding's name is there
    last = [len(shown) - 1]
    tick(axis, [i for _, i in shown], [name for name, _ in shown], first=last, size=7, upright=upright)
