"""A circuit as a graph: the embedding at the bottom, layers up, heads and MLPs as nodes, the logits on top.

An edge is as wide as its effect is large; blue edges help the clean answer, red ones work against it. An edge ends at
the read that it goes into: q, k or v of a head. As many edges are drawn as are readable, the strongest, and what is cut
is said.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Protocol, Unpack

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from .charts import HELPS, HURTS, NODES, Look, Sheet, seen, style
from .circuit_dot import dot_text

NODE = re.compile(r"([am])(\d+)(?:\.h(\d+))?")
WIDTH, HEIGHT = 0.62, 0.3  # of a node, in inches
COLUMN, LINE, CLOSE = 0.95, 0.78, 0.48  # from node to node, from a row to the next, to a line that is close
CLOSEST = 0.34  # from a row to the next, where they are many
FEW = 10  # rows that stand straight above each other; of more, those that have few nodes stand aside in turn
ACROSS = 12  # nodes of a layer in a line
PORTS = {"q": -0.2, "k": 0.0, "v": 0.2}  # where a head's reads are, from its middle
PAGE = (13.0, 9.8)  # inches that nodes take at most
SMALLEST = 0.65  # of their usual size, that nodes and letters have at least

Link = tuple[str, str, str, float]
Places = dict[str, tuple[float, float]]


class Drawn(Protocol):
    """What is drawn: a circuit."""

    method: str
    metric: str

    @property
    def n(self) -> int: ...
    @property
    def approximate(self) -> bool: ...

    upstream: np.ndarray

    def links(self, most: int | None = None) -> list[Link]: ...


def circuit_graph(
    circuit: Drawn,
    path: str | os.PathLike | None = None,
    most: int | None = 60,
    dot: bool = False,
    **look: Unpack[Look],
) -> Figure | str:
    """Draw a circuit, or write it in the DOT language.

    Args:
        circuit: a `Circuit`.
        path: where it goes: .png, .pdf or .svg; .dot for a text.
        most: edges that are drawn at most, the strongest; fewer where they do not fit a page. None: all, on a figure as
            large as that takes.
        dot: return the text.
        look: `ax` or `fig` to draw on, and `caption`, as in every plot.

    Returns:
        A matplotlib Figure, or the text.

    Raises:
        InputError: when the path cannot be written.
    """
    if dot or (path is not None and Path(path).suffix.lower() in (".dot", ".gv")):
        return dot_text(circuit.links(), _title(circuit), path)
    sheet = Sheet(path, **look)
    with style():
        drawn = _drawn(circuit, sheet, most)
        sheet.headline(_title(circuit), _caption(circuit, drawn))
    return sheet.finish()


def _title(circuit: Drawn) -> str:
    return f"Circuit of {circuit.n} of {int(circuit.upstream.sum())} edges ({circuit.metric})"


def _caption(circuit: Drawn, drawn: int) -> list[str]:
    cut = ""
    if drawn < circuit.n:
        largest = abs(circuit.links(drawn + 1)[-1][3])
        cut = (
            f"; the {drawn} strongest of {circuit.n} are drawn, the others' scores are at most {largest:.2g}"
        )
    exact = f"approximate ({circuit.method}: gradients)" if circuit.approximate else "exact"
    return [
        f"blue edges help the clean answer, red ones work against it; width: size of the score{cut}",
        f"q, k, v: the read that an edge goes into; scores are {exact}",
    ]


# ---- where the nodes are


def _row(name: str) -> tuple[float, int]:
    """How far up a node is, and its place among those of its row."""
    found = NODE.fullmatch(name)
    if found is None:
        return (-1.0, 0) if name == "embed" else (np.inf, 0)
    return 2.0 * int(found[2]) + (found[1] == "m"), int(found[3] or 0)


def places_of(links: list[Link]) -> Places:
    """Where each node is, in inches: a row for each layer's heads and for its MLP, as far as they are in the circuit.

    Within a row nodes stand in the order of the mean place of what they are joined with below: lines cross less. Many
    heads of a layer stand in several lines.
    """
    names = dict.fromkeys(name for sender, node, _, _ in links for name in (sender, node)) or [
        "embed",
        "logits",
    ]
    rows: dict[float, list[str]] = {}
    for name in sorted(names, key=_row):
        rows.setdefault(_row(name)[0], []).append(name)
    widest = min(max(*map(len, rows.values()), len(rows) // 3 if len(rows) > FEW else 0), ACROSS)
    below: dict[str, list[str]] = {}
    for sender, node, _, _ in links:
        below.setdefault(node, []).append(sender)
    places: Places = {}
    up, line = 0.0, max(CLOSEST, min(LINE, LINE * 14 / len(rows)))
    for i, (level, here) in enumerate(rows.items()):
        if level % 2 == 1 and here != ["embed"]:  # MLPs stand in a column of their own
            places[here[0]] = (COLUMN * (0.5 * widest + 0.4), up)
        else:
            turn = (
                (i * 0.618) % 1 - 0.5 if len(rows) > FEW else 0.0
            )  # the golden section: neighbours stand far apart
            up += _lines(here, below, places, up, turn * max(widest - len(here), 0) * COLUMN)
        up += line
    return places


def _lines(here: list[str], below: dict[str, list[str]], places: Places, up: float, aside: float) -> float:
    """Place the nodes of a row; how much higher its last line is than its first."""
    joined = {name: [places[s][0] for s in below.get(name, ()) if s in places] for name in here}
    order = sorted(here, key=lambda name: (np.mean(joined[name]) if joined[name] else 0.0, _row(name)))
    lines = -(-len(order) // ACROSS)
    for line in range(lines):
        part = order[line::lines]
        between = aside + 0.5 * COLUMN * line / lines  # from one line the next is seen
        for i, name in enumerate(part):
            places[name] = ((i - (len(part) - 1) / 2) * COLUMN + between, up + line * CLOSE)
    return (lines - 1) * CLOSE


def _span(places: Places) -> np.ndarray:
    """Inches that the nodes take, across and up, with their margin."""
    at = np.array(list(places.values()))
    return at.max(0) - at.min(0) + (WIDTH + 0.8, HEIGHT + 0.4)


# ---- what is drawn


def _drawn(circuit: Drawn, sheet: Sheet, most: int | None) -> int:
    """Draw the strongest edges, as many as are readable where they are drawn; how many these are."""
    given, page = sheet.ax is not None or sheet._given is not None, np.array(PAGE)
    if given:
        sheet.open(*PAGE)
        page = np.array(sheet.inches) - ((0.1, 0.1) if sheet.ax is not None else (0.2, 1.1))
    last = circuit.n if most is None else min(most, circuit.n)
    fits, whole = min(1, last), most is None and not given
    while not whole and fits < last:  # the more edges the more nodes: search by halves
        n = (fits + last + 1) // 2
        room = (SMALLEST * _span(places_of(circuit.links(n))) <= page).all()
        fits, last = (n, last) if room else (fits, n - 1)
    links = circuit.links(last)
    places = places_of(links)
    span = np.maximum(_span(places), (3.0, 1.6))
    size = 1.0 if whole else float(min(1.0, *(page / span)))
    if not given:
        across, up = span * size
        sheet.open(max(across, 4.2), max(up, 2.0) + 0.9)
    _draw_all(sheet.axes()[0, 0], links, places, span, size)
    return last


def _draw_all(ax: Any, links: list[Link], places: Places, span: np.ndarray, size: float) -> None:
    at = np.array(list(places.values()))
    middle = (at.max(0) + at.min(0)) / 2
    ax.set_xlim(middle[0] - span[0] / 2, middle[0] + span[0] / 2)
    ax.set_ylim(middle[1] - span[1] / 2, middle[1] + span[1] / 2)
    ax.set_aspect("equal")
    ax.axis("off")
    most = max((abs(effect) for *_, effect in links), default=1.0) or 1.0
    reads: dict[str, set[str]] = {}
    for sender, node, read, effect in reversed(links):  # the strongest on top
        _arrow(ax, places[sender], places[node], read, effect, abs(effect) / most, size)
        reads.setdefault(node, set()).add(read)
    for name, place in places.items():
        _node(ax, name, place, reads.get(name, set()) - {""}, size)


def _arrow(
    ax: Any,
    start: tuple[float, float],
    end: tuple[float, float],
    read: str,
    effect: float,
    part: float,
    size: float,
) -> None:
    """One edge, curved more the farther up it goes, so that it passes beside the nodes between."""
    a = (start[0], start[1] + HEIGHT / 2)
    b = (end[0] + PORTS.get(read, 0.0), end[1] - HEIGHT / 2)
    far, side = (b[1] - a[1]) / LINE, b[0] - a[0]
    bend = 0.0 if far < 1.5 else min(0.12, 0.8 / np.hypot(far * LINE, side)) * (1 if side >= 0 else -1)
    arrow = FancyArrowPatch(
        a,
        b,
        connectionstyle=f"arc3,rad={bend}",
        arrowstyle="-|>,head_length=2.2,head_width=1.1",
        linewidth=(0.5 + 3.0 * part) * size,
        color=seen(HELPS if effect >= 0 else HURTS),
        alpha=0.35 + 0.6 * part,
        shrinkA=0,
        shrinkB=0,
        mutation_scale=1.6 * size,
    )
    ax.add_patch(arrow)


def _node(ax: Any, name: str, at: tuple[float, float], reads: set[str], size: float) -> None:
    x, y = at
    box = FancyBboxPatch(
        (x - WIDTH / 2, y - HEIGHT / 2),
        WIDTH,
        HEIGHT,
        boxstyle="round,pad=0,rounding_size=0.06",
        facecolor=NODES[name[0]],
        edgecolor="0.25",
        linewidth=0.7 * size,
        zorder=3,
    )
    ax.add_patch(box)
    up = 0.045 if reads else 0.0
    letters = {"ha": "center", "va": "center", "zorder": 4}  # black: boxes are pale on any ground
    ax.text(x, y + up, name, fontsize=8 * size, color="black", **letters)
    for read in sorted(reads):
        ax.text(x + PORTS[read], y - 0.09, read, fontsize=6 * size, color="0.2", **letters)
