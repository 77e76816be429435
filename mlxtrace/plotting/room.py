"""How much room things have: one rule for the sizes of all maps and their letters, and ticks that never overlap."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, cast

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import Formatter, Locator

from .elided import elided
from .glyphs import em, ordered

WIDEST, TALLEST = 15.5, 10.5  # inches of a figure
PIXELS = 100  # of an inch
STEPS = (1, 2, 5)  # times 1, 10, 100, ...
GAP = 0.6  # of the size of letters: between two labels beside each other
LINE = 1.3  # of the size of letters: from one line of labels to the next
SMALLEST, THINNED, USUAL = 5.5, 7.0, 8.0  # points of tick labels, of some where there is no room for all


# ---- sizes


class Size(NamedTuple):
    """How maps stand in a grid, and how large each is, in inches."""

    rows: int
    columns: int
    width: float  # of one map
    height: float
    figure: tuple[float, float]

    @property
    def high(self) -> float:
        """Inches of a colour bar beside all."""
        return self.rows * self.height + 0.35 * (self.rows - 1)

    def letters(self, cells: int, across: bool = False) -> float:
        """Points of the labels of so many cells along a side."""
        fits = 72 * (self.width if across else self.height) / max(cells, 1) / LINE
        return float(np.clip(fits, SMALLEST, USUAL)) if fits > SMALLEST else THINNED

    def holds(self, text: str, rows: int, size: float = 6.5) -> bool:
        """Whether a text fits in one of so many rows."""
        return em(text) * size / 72 < 0.95 * self.width and LINE * size / 72 < self.height / max(rows, 1)

    def pool(self, rows: int, columns: int) -> tuple[int, int]:
        """How many cells stand for one in each direction, so that none is smaller than what a screen shows."""
        found = [-(-n // int(PIXELS * side)) for n, side in ((rows, self.height), (columns, self.width))]
        return found[0], found[1]


def size_of(
    maps: int,
    rows: int,
    columns: int,
    beside: float,
    below: float,
    bars: int = 1,
    cell: float = 0.2,
    square: bool = False,
    within: tuple[float, float] = (WIDEST, TALLEST),
) -> Size:
    """The size of so many maps of rows x columns, all alike: cells that are seen, in a figure that fits a page.

    Args:
        maps, rows, columns: how many maps, and cells of each.
        beside, below: inches of the labels of rows and of columns.
        bars: colour bars that stand beside maps.
        cell: inches that a column would like to have.
        square: whether maps are as high as they are wide.
        within: inches that there are at most.
    """
    widest = 3.6 if maps > 1 else 13.5 if cell > 0.2 else float(np.clip(0.075 * columns, 6.0, 10.0))
    natural = (
        float(np.clip(cell * columns, 2.2, widest)),
        float(np.clip((0.2 if rows <= 30 else 0.16) * rows, 1.4, 8.0)),
    )
    if square:
        natural = (min(natural),) * 2
    best, found = (-1.0, 0), None
    for across in range(1, maps + 1):
        down = -(-maps // across)
        between = (0.15 + 0.55 * bars / max(maps, 1)) * across
        room = (within[0] - beside - between - 0.5, within[1] - 0.9 - below - 0.35 * down)
        shrunk = [
            min(1.0, max(total, 0.5) / (n * size))
            for total, n, size in zip(room, (across, down), natural, strict=True)
        ]
        shrunk = [min(shrunk)] * 2 if square else shrunk
        usual = across == -(-maps // -(-maps // 4))  # up to four beside each other where all fit
        full = across * down == maps
        score = (round(min(shrunk) * (1.0 if full or usual else 0.8), 2), int(usual))
        if score > best:
            w, h = (size * part for size, part in zip(natural, shrunk, strict=True))
            total = (beside + across * w + between + 0.5, down * (h + 0.35) + below + 0.9)
            best, found = score, Size(down, across, w, h, total)
    assert found is not None  # there is a map
    return found


def label_room(labels: Sequence[str], size: float = USUAL) -> float:
    """Inches that labels take along their line."""
    return size / 72 * max(map(em, labels), default=0) + 0.1


def fitted(
    text: str, inches: float, size: float, most: int, indent: str = "", bold: bool = False
) -> list[str]:
    """The text in lines of about the same length, at most so many: a longer one is cut in the middle.

    Args:
        text: one paragraph.
        inches: room of a line.
        size: points of the letters.
        most: lines at most.
        indent: what stands before each line but the first.
        bold: whether the letters are.
    """
    room = max(72 * inches / size, 12.0)
    keep, kept = len(text), text
    while True:
        kept = elided(text, keep) if keep < len(text) else text
        lines = _wrapped(kept, room, indent, bold)
        if len(lines) <= most:
            break
        keep = int(keep * min(0.97, 1.1 * most / len(lines)))
    if not indent and len(lines) > 1:  # a title: no line of one word
        whole = em(kept, bold) / len(lines)
        even = (_wrapped(kept, min(part * whole, room), indent, bold) for part in (1.02, 1.1, 1.2))
        lines = next((found for found in even if len(found) == len(lines)), lines)
    return [ordered(line.rstrip(" ")) for line in lines]


def _wrapped(text: str, room: float, indent: str, bold: bool) -> list[str]:
    """Lines that are no wider than the room, in sizes of letters; words that are wider are cut."""
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line.strip() else line + word
        if em(longer, bold) <= room:
            line = longer
            continue
        lines += [line] if line.strip() else []
        line = indent + word if lines else word
        while em(line, bold) > room:
            n = next(n for n in range(len(line), 0, -1) if n == 1 or em(line[:n], bold) <= room)
            lines.append(line[:n])
            line = indent + line[n:]
    return [*lines, line] if line.strip() or not lines else lines


def pooled(values: np.ndarray, by: tuple[int, int], white: float) -> np.ndarray:
    """Blocks of cells as one, which has the value furthest from no effect; NaN where there is none."""
    rows, columns = (-(-n // k) for n, k in zip(values.shape, by, strict=True))
    out = np.full((rows * by[0], columns * by[1]), np.nan)
    out[: values.shape[0], : values.shape[1]] = values
    blocks = out.reshape(rows, by[0], columns, by[1]).swapaxes(1, 2).reshape(rows, columns, -1)
    furthest = np.nan_to_num(np.abs(blocks - white), nan=-1.0).argmax(-1)[..., None]
    return np.take_along_axis(blocks, furthest, -1)[..., 0]


# ---- ticks


class Thinned(Locator):
    """Ticks at some of the labels, as many as the axis has room for when it is drawn, however large it is by then.

    at: where the labels stand, in order; first: indices of those that are kept rather than others.
    """

    def __init__(self, at: Sequence[float], labels: Sequence[str], most: int, first: Collection[int]) -> None:
        self.at, self.labels, self.most, self.first = list(at), list(labels), most, sorted(first)
        self.widest = max(map(em, labels), default=0.0)

    def __call__(self) -> list[float]:
        return [self.at[i] for i in self._shown()]

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        return self()

    def _shown(self) -> list[int]:
        n, need = len(self.at), self._need()
        gaps = np.abs(np.diff(self.at)) if n > 1 else np.ones(1)
        each = float(gaps.mean()) or 1.0
        step = next(
            s for p in range(9) for s in (k * 10**p for k in STEPS) if n <= s * self.most and s * each >= need
        )
        if step == 1 and gaps.min() >= need:
            return list(range(n))
        kept: list[int] = []
        for i in [*self.first, *range(0, n, step)]:
            if all(abs(self.at[i] - self.at[j]) >= need for j in kept):
                kept.append(i)
        return sorted(kept)

    def _need(self) -> float:
        """From one label to the next, in units of the axis."""
        axis: Any = self.axis
        box, across = axis.axes.bbox, axis.axis_name == "x"
        params = axis.get_tick_params()
        size = params.get("labelsize", USUAL)
        points = size if isinstance(size, int | float) else USUAL
        letters = points * (self.widest + GAP)
        turned = params.get("labelrotation") or params.get("rotation")  # its name differs between versions
        along = letters if across and not turned else LINE * points
        inches = (box.width if across else box.height) / axis.axes.figure.dpi
        low, high = axis.get_view_interval()
        return along / 72 / max(inches, 1e-3) * abs(high - low)


def tick(
    axis: Any,
    at: Sequence[float] | np.ndarray,
    labels: Sequence[str],
    most: int = 1000,
    first: Collection[int] = (),
    size: float | None = None,
    upright: bool = False,
) -> None:
    """Label an axis at some places: every label, or every 2nd, 5th, 10th ... where there is no room.

    Args:
        axis: of an Axes, `ax.xaxis` or `ax.yaxis`.
        at: where the labels stand.
        labels: what stands there, as matplotlib draws it.
        most: labels at most.
        first: indices of labels that are kept rather than others, such as those of cuts.
        size: points of the letters.
        upright: whether labels of an x axis stand on end.
    """
    name, style = f"{axis.axis_name}tick", cast(dict[str, Any], mpl.rcParams)
    colour = style[f"{name}.labelcolor"]
    axis.set_tick_params(
        length=2,
        labelsize=style[f"{name}.labelsize"] if size is None else size,
        labelfontfamily=mpl.rcParams[
            "font.family"
        ],  # ticks are made when they are drawn, outside of any style
        labelcolor=style[f"{name}.color"] if colour == "inherit" else colour,
        labelrotation=90 if upright else 0,
    )
    texts = {round(place, 4): ordered(label) for place, label in zip(at, labels, strict=True)}
    axis.set_major_locator(Thinned(list(map(float, at)), labels, most, first))
    axis.set_major_formatter(Labels(texts))


class Labels(Formatter):
    """The label of each place."""

    def __init__(self, texts: dict[float, str]) -> None:
        self.texts = texts

    def __call__(self, x: float, pos: int | None = None) -> str:
        return self.texts.get(round(x, 4), "")
