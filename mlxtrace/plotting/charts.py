"""What bars and lines by layer share: panels of one size rule, and legends and titles that lie over nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .colours import (
    AUDIT,
    HELPS,
    HURTS,
    LESS,
    MORE,
    NODES,
    ROLES,
    THRESHOLD,
    VERIFIED,
    diverging,
    ink,
    seen,
    series,
)
from .kit import (
    WHISKERS_MEAN,
    capital,
    colour_of,
    escape,
    family,
    least_span,
    plain_axes,
    style,
    ticks,
    token_label,
    token_labels,
    whiskers,
)
from .room import elided, fitted, pooled, tick
from .rows import Rows, matter, no_rows
from .sheet import Look, Sheet

__all__ = [  # of all that charts are made with: their files import it here
    "AUDIT",
    "HELPS",
    "HURTS",
    "LESS",
    "MORE",
    "NODES",
    "ROLES",
    "THRESHOLD",
    "VERIFIED",
    "WHISKERS_MEAN",
    "Look",
    "Rows",
    "Sheet",
    "band",
    "by_layer",
    "capital",
    "colour_of",
    "diverging",
    "escape",
    "family",
    "ink",
    "least_span",
    "legend",
    "matter",
    "no_rows",
    "plain_axes",
    "pooled",
    "seen",
    "series",
    "style",
    "tick",
    "title",
    "token_label",
    "token_labels",
    "whiskers",
]
BESIDE = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.4}
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
            ax.set_ylabel(
                "\n".join(fitted(escape(y_label), max(1.2, 0.8 * sheet.inches[1] / rows - 0.7), 9, 3))
            )
    return axes[:panels]


def legend(ax: Any, given: bool = False, size: float = 7.5, inches: float = 1.8, **options: Any) -> Any:
    """The legend of an axes, to the right of it; within an axes that the user gave, above the data.

    Args:
        ax: what has labelled artists.
        given: whether it is the user's own, beside which there may be no room.
        size: points of the letters.
        inches: of a line; longer labels are broken, or cut in the middle.
        options: of matplotlib's `legend`, such as handles.
    """
    if not (options.get("handles") or ax.get_legend_handles_labels()[0]):
        return None
    place = {"loc": "upper right", "borderaxespad": 0.3} if given else BESIDE
    found = ax.legend(frameon=False, fontsize=size, **place, **options)
    texts = found.get_texts()
    height = ax.get_position().height * ax.figure.bbox.height / ax.figure.dpi
    lines = int(np.clip(72 * height / (1.7 * size * len(texts)), 1, 3))  # a legend is no higher than its axes
    letters = int(72 * inches / (0.6 * size)) * lines
    for text in texts:
        text.set_text("\n".join(fitted(elided(text.get_text(), letters), inches, size, lines)))
    if given:
        _make_room(ax, found)
    return found


def _make_room(ax: Any, found: Any) -> None:
    """Raise the upper end of the y axis, so that the legend stands above all data."""
    whole = ax.figure
    while hasattr(whole, "subfigs") and whole.figure is not whole:
        whole = whole.figure
    whole.draw_without_rendering()
    part = min(found.get_window_extent().height / ax.bbox.height + 0.05, MOST_OF_AXES)
    scale = ax.yaxis.get_transform()  # the axis may be logarithmic
    low, high = scale.transform(np.array(ax.get_ylim()))
    ax.set_ylim(top=float(scale.inverted().transform(np.array([low + (high - low) / (1 - part)]))[0]))


def title(ax: Any, text: str, inches: float, size: float = 9, **options: Any) -> None:
    """The title of a panel, in as many lines as its width in inches asks for."""
    ax.set_title("\n".join(fitted(escape(text), inches, size, 2)), fontsize=size, **options)


def band(colour: str) -> dict[str, Any]:
    """The looks of a pale band, whose edge is seen on other bands as well."""
    return {"facecolor": (seen(colour), 0.22), "edgecolor": (seen(colour), 0.75), "linewidth": 0.4}
