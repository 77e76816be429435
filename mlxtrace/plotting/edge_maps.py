"""The scores of all edges as a map: senders down, receivers across, in the order of the stream."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, Protocol

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from .kit import checked, finished, headline, style

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


def edge_map(edges: Scored, path: str | os.PathLike | None = None) -> Figure:
    """Draw the scores, blue above 0 and red below, grey where there is no edge.

    Args:
        edges: an `Edges`.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: when the path cannot be written.
    """
    path = checked(path)
    values = np.where(edges.upstream, edges.scores, np.nan)
    most = max(float(np.nanmax(np.abs(values))), 1e-12)
    with style():
        width, height = (
            float(np.clip(0.06 * n, 3.0, 11.0)) for n in (len(edges.receivers), len(edges.senders))
        )
        fig = Figure(figsize=(width + 1.6, max(height, 2.6) + 1.0), layout="constrained")
        ax: Any = fig.subplots()
        ax.set_facecolor("0.88")
        colours = mpl.colormaps["RdBu"]
        mesh = ax.pcolormesh(np.ma.masked_invalid(values), cmap=colours, vmin=-most, vmax=most)
        _ticks(ax.xaxis, edges.receivers)
        _ticks(ax.yaxis, edges.senders)
        ax.invert_yaxis()
        ax.set_xlabel("receiver")
        ax.set_ylabel("sender")
        bar = fig.colorbar(mesh, ax=ax, pad=0.02, label=f"change of {edges.metric}")
        bar.outline.set_visible(False)
        said = ["in the order of the stream; a layer's heads come before its MLP"]
        headline(fig, edges.title[0].upper() + edges.title[1:], said)
    return finished(fig, path)


def _ticks(axis: Any, names: Sequence[str]) -> None:
    """Every name where there is room, else the layers, where each begins."""
    if len(names) <= 40:
        axis.set_ticks(np.arange(len(names)) + 0.5, names)
        axis.set_tick_params(length=2, labelsize=6, rotation=90 if axis.axis_name == "x" else 0)
        return
    starts: dict[str, int] = {}
    for i, name in enumerate(names):
        found = HEADS.match(name)
        starts.setdefault(f"{found[1]}" if found else name, i)
    step = -(-len(starts) // 26)
    shown = [item for j, item in enumerate(starts.items()) if j % step == 0 or not item[0].isdigit()]
    shown = [item for item in shown if item != ("0", 1)]  # the embedding's name is there
    axis.set_ticks([i for _, i in shown], [name for name, _ in shown])
    axis.set_tick_params(length=2, labelsize=7)
