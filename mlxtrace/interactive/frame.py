"""What interactive figures have in common: a white sheet as wide as its place, a title, and a caption below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .texts import safe, wrapped

FONT = {"family": "Helvetica, Arial, sans-serif", "size": 12, "color": "#222"}
LINE = 16  # pixels of a line of the caption
LEAST = 150  # pixels of the part with the data


def dress(
    figure: Any,
    title: str,
    caption: Sequence[str],
    height: float,
    named: bool = False,
    below: int = 60,
    right: int = 20,
) -> Any:
    """The figure with its title and caption above, `height` pixels for the data, its width that of its place.

    named: whether panels have names of their own, which stand below the caption.

    Texts may be anything: they are made inert here. White in any theme, as the colours are made for white.
    """
    lines, titles = wrapped(caption), wrapped([title], 90)
    top = 30 + 20 * len(titles) + LINE * len(lines) + 20 * named
    whole = int(top + max(height, LEAST) + below)
    figure.update_annotations(font_size=13)
    figure.update_layout(
        template="none",
        autosize=True,
        height=whole,
        paper_bgcolor="white",
        plot_bgcolor=figure.layout.plot_bgcolor or "white",
        font=FONT,
        margin={"t": top, "b": below, "l": 60, "r": right},
        hoverlabel={"align": "left", "bgcolor": "white", "font": FONT},
        title={
            "text": f"<b>{'<br>'.join(titles)}</b>",
            "subtitle": {"text": "<br>".join(lines), "font": {"size": 12, "color": "#555"}},
            "font": {"size": 15},
            "x": 0,
            "xanchor": "left",
            "xref": "container",
            "pad": {"l": 12},
            "y": 1 - 14 / whole,
            "yanchor": "top",
        },
        meta={"title": safe(title), "caption": lines},
    )
    return figure


def rgb(colour: Sequence[float]) -> str:
    """A colour of matplotlib, numbers of 0 to 1, as plotly has it."""
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in list(colour)[:3])
