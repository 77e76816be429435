"""A circuit as a graph: the embedding at the bottom, layers up, heads and MLPs as nodes, the logits on top.

An edge is as wide as its effect is large; blue edges help the clean answer, red ones work against it. An edge ends at
the read that it goes into: q, k or v of a head.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from .circuit_dot import COLOURS, HELPS, HURTS, dot_text
from .kit import checked, finished, headline, style

NODE = re.compile(r"([am])(\d+)(?:\.h(\d+))?")
WIDTH, HEIGHT = 0.62, 0.3  # of a node, in inches
PORTS = {"q": -0.2, "k": 0.0, "v": 0.2}  # where a head's reads are, from its middle


class Drawn(Protocol):
    """What is drawn: a circuit."""

    method: str
    metric: str

    @property
    def n(self) -> int: ...
    @property
    def approximate(self) -> bool: ...

    upstream: np.ndarray

    def links(self, most: int | None = None) -> list[tuple[str, str, str, float]]: ...


def circuit_graph(
    circuit: Drawn, path: str | os.PathLike | None = None, most: int | None = 60, dot: bool = False
) -> Figure | str:
    """Draw a circuit, or write it in the DOT language.

    Args:
        circuit: a `Circuit`.
        path: where it goes: .png, .pdf or .svg; .dot for a text.
        most: edges that are drawn at most, the strongest; None for all.
        dot: return the text.

    Returns:
        A matplotlib Figure, or the text.

    Raises:
        InputError: when the path cannot be written.
    """
    if dot or (path is not None and Path(path).suffix.lower() in (".dot", ".gv")):
        return dot_text(circuit.links(), _title(circuit), path)
    path = checked(path)
    drawn = circuit.links(most)
    with style():
        fig = _figure(drawn)
        left = "" if most is None or most >= circuit.n else f"; the {most} strongest of {circuit.n} are drawn"
        colours = "blue edges help the clean answer, red ones work against it; width: size of the score"
        approximate = (
            f"scores are approximate ({circuit.method}: gradients)"
            if circuit.approximate
            else "scores are exact"
        )
        headline(
            fig,
            _title(circuit),
            [f"{colours}{left}", f"q, k, v: the read that an edge goes into; {approximate}"],
        )
    return finished(fig, path)


def _title(circuit: Drawn) -> str:
    return f"Circuit of {circuit.n} of {int(circuit.upstream.sum())} edges ({circuit.metric})"


def _row(name: str) -> tuple[float, int]:
    """How far up a node is, and its place among those of its row."""
    found = NODE.fullmatch(name)
    if found is None:
        return (-1.0, 0) if name == "embed" else (np.inf, 0)
    return 2.0 * int(found[2]) + (found[1] == "m"), int(found[3] or 0)


def places_of(rows: list[tuple[str, str, str, float]]) -> dict[str, tuple[float, float]]:
    """Where each node is, in inches: a row for each layer's heads and for its MLP, as far as they are in the circuit.

    Within a row nodes stand in the order of the mean place of what they are joined with below: lines cross less.
    """
    names = dict.fromkeys(name for sender, node, _, _ in rows for name in (sender, node)) or {
        "embed": 0,
        "logits": 0,
    }
    levels = sorted({_row(name)[0] for name in names})
    widest = max(sum(_row(name)[0] == level for name in names) for level in levels)
    places: dict[str, tuple[float, float]] = {}
    for up, level in enumerate(levels):
        here = sorted((name for name in names if _row(name)[0] == level), key=_row)
        below = {
            name: [places[s][0] for s, node, _, _ in rows if node == name and s in places] for name in here
        }
        if level % 2 != 1:
            here.sort(key=lambda name: (np.mean(below[name]) if below[name] else 0.0, _row(name)))
        for i, name in enumerate(here):
            side = (0.5 * widest + 0.4) * 0.95  # MLPs stand in a column of their own
            x = side if level % 2 == 1 and name != "embed" else (i - (len(here) - 1) / 2) * 0.95
            places[name] = (x, up * 0.78)
    return places


def _figure(rows: list[tuple[str, str, str, float]]) -> Figure:
    places = places_of(rows)
    x, y = np.array(list(places.values())).T
    across, up = x.max() - x.min() + 1.4, y.max() + 0.9
    fig = Figure(figsize=(max(across, 4.2), max(up, 2.4) + 0.9), layout="constrained")
    ax = fig.subplots()
    ax.set_xlim((x.min() + x.max() - max(across, 4.2)) / 2, (x.min() + x.max() + max(across, 4.2)) / 2)
    ax.set_ylim(-0.4, y.max() + 0.4)
    ax.set_aspect("equal")
    ax.axis("off")
    most = max((abs(effect) for *_, effect in rows), default=1.0) or 1.0
    for sender, node, read, effect in reversed(rows):  # the strongest on top
        _arrow(ax, places[sender], places[node], read, effect, abs(effect) / most)
    reads: dict[str, set[str]] = {}
    for _, node, read, _ in rows:
        reads.setdefault(node, set()).add(read)
    for name, at in places.items():
        _node(ax, name, at, reads.get(name, set()) - {""})
    return fig


def _arrow(
    ax: Any, start: tuple[float, float], end: tuple[float, float], read: str, effect: float, part: float
) -> None:
    """One edge, curved more the farther up it goes, so that it passes beside the nodes between."""
    a = (start[0], start[1] + HEIGHT / 2)
    b = (end[0] + PORTS.get(read, 0.0), end[1] - HEIGHT / 2)
    far, side = (b[1] - a[1]) / 0.78, b[0] - a[0]
    bend = 0.0 if far < 1.5 else (0.12 if side >= 0 else -0.12)
    arrow = FancyArrowPatch(
        a,
        b,
        connectionstyle=f"arc3,rad={bend}",
        arrowstyle="-|>,head_length=2.2,head_width=1.1",
        linewidth=0.5 + 3.0 * part,
        color=HELPS if effect >= 0 else HURTS,
        alpha=0.35 + 0.6 * part,
        shrinkA=0,
        shrinkB=0,
        mutation_scale=1.6,
    )
    ax.add_patch(arrow)


def _node(ax: Any, name: str, at: tuple[float, float], reads: set[str]) -> None:
    x, y = at
    box = FancyBboxPatch(
        (x - WIDTH / 2, y - HEIGHT / 2),
        WIDTH,
        HEIGHT,
        boxstyle="round,pad=0,rounding_size=0.06",
        facecolor=COLOURS[name[0]],
        edgecolor="0.25",
        linewidth=0.7,
        zorder=3,
    )
    ax.add_patch(box)
    up = 0.045 if reads else 0.0
    ax.text(x, y + up, name, ha="center", va="center", fontsize=8, zorder=4)
    for read in sorted(reads):
        ax.text(x + PORTS[read], y - 0.09, read, ha="center", va="center", fontsize=6, color="0.3", zorder=4)
