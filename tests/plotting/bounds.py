"""What overlaps in a figure, by the renderer's boxes: for the tests that nothing does."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from matplotlib.figure import Figure

SLACK = 1.0  # pixels that boxes may share


def faults(fig: Figure) -> list[str]:
    """What is wrong with where things are: texts and legends over each other or over data, or beyond the canvas."""
    fig.draw_without_rendering()
    found = []
    words = _words(fig)
    for name, box in words:
        if not (box.x0 >= -SLACK and box.y0 >= -SLACK and box.x1 <= fig.bbox.width + SLACK):
            found.append(f"{name} leaves the canvas")
        elif box.y1 > fig.bbox.height + SLACK:
            found.append(f"{name} leaves the canvas above")
    for (one, a), (other, b) in itertools.combinations(words, 2):
        if _overlap(a, b):
            found.append(f"{one} lies over {other}")
    for ax in fig.axes:
        for axis in (ax.xaxis, ax.yaxis) if ax.axison else ():
            found += [f"tick labels of an {axis.axis_name} axis overlap: {pair}" for pair in _ticks(axis)]
        found += [f"a legend covers {what}" for what in _covered(ax)]
        found += [f"-0 on an axis: {t.get_text()}" for t in _labels(ax) if t.get_text().strip("−-0.") == ""
                  and t.get_text()[:1] in "−-" and t.get_text()]  # fmt: skip
    return found


def _overlap(a: Any, b: Any) -> bool:
    return min(a.x1, b.x1) - max(a.x0, b.x0) > SLACK and min(a.y1, b.y1) - max(a.y0, b.y0) > SLACK


def _words(fig: Figure) -> list[tuple[str, Any]]:
    """Titles, captions, labels of axes, legends and the tick labels of each axis as one, with their boxes."""
    texts = {"the title": fig._suptitle, "the caption": fig._supxlabel}
    found = [(name, text) for name, text in texts.items() if text is not None]
    for i, ax in enumerate(fig.axes):
        found += [(f"a title of axes {i}", text) for text in (ax.title, ax._left_title, ax._right_title)]
        found += [(f"the label of an {axis.axis_name} axis {i}", axis.label) for axis in (ax.xaxis, ax.yaxis)]
        found += [(f"the legend of axes {i}", ax.get_legend())] if ax.get_legend() else []
        found += [(f"a tick {text.get_text()!r} of axes {i}", text) for text in _labels(ax)]
    seen = [(name, thing) for name, thing in found if _shown(thing)]
    boxes = [(name, thing.get_window_extent()) for name, thing in seen]
    # tick labels of one axis are held apart by `_ticks`, which knows of more slack
    return [(name, box) for name, box in boxes if not name.startswith("a tick")] + _of_axes(fig)


def _of_axes(fig: Figure) -> list[tuple[str, Any]]:
    """The tick labels of each axis, as one box."""
    found = []
    for i, ax in enumerate(fig.axes):
        for axis in (ax.xaxis, ax.yaxis) if ax.axison else ():
            boxes = [t.get_window_extent() for t in axis.get_ticklabels() if _shown(t) and _inside(axis, t)]
            if boxes:
                found.append((f"the ticks of an {axis.axis_name} axis {i}", type(boxes[0]).union(boxes)))
    return [(name, box) for name, box in found if "the ticks" in name]


def _shown(thing: Any) -> bool:
    return thing.get_visible() and (not hasattr(thing, "get_text") or bool(thing.get_text()))


def _inside(axis: Any, text: Any) -> bool:
    low, high = sorted(axis.get_view_interval())
    at = text.get_position()[0 if axis.axis_name == "x" else 1]
    return low - 1e-9 <= at <= high + 1e-9


def _labels(ax: Any) -> list[Any]:
    if not ax.axison:
        return []
    return [
        t for axis in (ax.xaxis, ax.yaxis) for t in axis.get_ticklabels() if _shown(t) and _inside(axis, t)
    ]


def _ticks(axis: Any) -> list[str]:
    labels = [t for t in axis.get_ticklabels() if _shown(t) and _inside(axis, t)]
    boxes = [(t.get_text(), t.get_window_extent()) for t in labels]
    return [f"{one!r}, {other!r}" for (one, a), (other, b) in itertools.pairwise(boxes) if _overlap(a, b)]


def _covered(ax: Any) -> list[str]:
    """The data that lie under the legend of an axes."""
    if ax.get_legend() is None:
        return []
    box, found = ax.get_legend().get_window_extent(), []
    for patch in ax.patches:
        if _overlap(box, patch.get_window_extent()):
            found.append("a bar")
    for line in ax.lines:
        xy = line.get_transform().transform(np.column_stack(line.get_data()))
        steps = np.linspace(0, 1, 50)[:, None]
        along = (
            np.concatenate([a + steps * (b - a) for a, b in itertools.pairwise(xy)]) if len(xy) > 1 else xy
        )
        if box.contains(*along.T[:, :1].ravel()) or any(box.contains(x, y) for x, y in along):
            found.append(f"a line {line.get_label()}")
    for points in ax.collections:
        at = points.get_offset_transform().transform(np.asarray(points.get_offsets()))
        if len(points.get_offsets()) > 1 and any(box.contains(x, y) for x, y in at):
            found.append("points")
    return found
