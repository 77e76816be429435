"""What bars and lines by layer share: panels of one size rule, and legends and titles that lie over nothing."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from .colours import seen
from .kit import escape, plain_axes, ticks

BESIDE = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.4}
LETTER = 0.0085  # inches that a letter is wide, for each point of its size
MOST_OF_AXES = 0.6  # of the height, that a legend within an axes takes at most


def by_layer(
    sheet: Any,
    layers: Sequence[Any],
    panels: int = 1,
    x_label: str = "layer",
    y_label: str = "",
    beside: float = 0.0,
    bars: int = 1,
) -> list[Any]:
    """Axes for bars or lines by layer, with shared axes; below each other where the layers are many.

    Args:
        sheet: what is drawn on; it is opened here.
        layers: which there are, in order; the first stands at 0.
        panels: how many.
        x_label: what the layers are.
        y_label: what is drawn.
        beside: inches for a legend to the right.
        bars: beside each other at each layer.
    """
    width = float(min(12, max(3.4 if panels > 1 else 4.6, 0.8 + (0.11 + 0.09 * bars) * len(layers))))
    columns = min(panels, max(1, int(14 / width)))
    rows = -(-panels // columns)
    sheet.open(width * columns + 0.5 + beside, 2.3 * rows + 1.2)
    axes = list(sheet.axes(rows, columns, sharex=True, sharey=True).flat)
    for ax in axes[panels:]:
        ax.remove()
    for i, ax in enumerate(axes[:panels]):
        plain_axes(ax)
        ax.set_xlim(-0.6, len(layers) - 0.4)
        ticks(ax.xaxis, [str(layer) for layer in layers], most=int(width * 4))
        if i + columns >= panels:
            ax.set_xlabel(escape(x_label))
            ax.tick_params(axis="x", labelbottom=True)
        if i % columns == 0:
            ax.set_ylabel(broken(escape(y_label), 34))
    return axes[:panels]


def legend(ax: Any, given: bool = False, size: float = 7.5, most: int = 30, **options: Any) -> Any:
    """The legend of an axes, to the right of it; within an axes that the user gave, above the data.

    Args:
        ax: what has labelled artists.
        given: whether it is the user's own, beside which there may be no room.
        size: points of the letters.
        most: letters of a line; longer labels are broken.
        options: of matplotlib's `legend`, such as handles.
    """
    if not (options.get("handles") or ax.get_legend_handles_labels()[0]):
        return None
    place = {"loc": "upper right", "borderaxespad": 0.3} if given else BESIDE
    found = ax.legend(frameon=False, fontsize=size, **place, **options)
    for text in found.get_texts():
        text.set_text(broken(text.get_text(), most))
    if given:
        _make_room(ax, found)
    return found


def _make_room(ax: Any, found: Any) -> None:
    """Raise the upper end of the y axis, so that the legend stands above all data."""
    ax.figure.draw_without_rendering()
    part = min(found.get_window_extent().height / ax.bbox.height + 0.05, MOST_OF_AXES)
    low, high = ax.get_ylim()
    ax.set_ylim(low, low + (high - low) / (1 - part))


def title(ax: Any, text: str, inches: float, size: float = 9, **options: Any) -> None:
    """The title of a panel, in as many lines as its width in inches asks for."""
    ax.set_title(broken(escape(text), max(10, int(inches / (LETTER * size)))), fontsize=size, **options)


def broken(text: str, most: int) -> str:
    """The text in lines of at most so many letters, as far as its words go; names without spaces are parted."""
    return "\n".join(textwrap.wrap(text, most, break_on_hyphens=False)) if len(text) > most else text


def nothing_is_flat(ax: Any, *values: Any) -> None:
    """An axis around 0 where all is 0: nothing must not look like a finding."""
    if not any((x == x) & (x != 0) for array in values for x in array.flat):
        ax.set_ylim(-1, 1)


def band(colour: str) -> dict[str, Any]:
    """The looks of a pale band, whose edge is seen on other bands as well."""
    return {"facecolor": (seen(colour), 0.22), "edgecolor": (seen(colour), 0.75), "linewidth": 0.4}
