"""What a plot is drawn on: a figure of its own, which notebooks show, or the `fig` or `ax` that it was given.

sheet = Sheet(path, ax=ax)               # refuses what cannot be drawn on or written to, before anything is drawn
fig = sheet.open(6.0, 3.0)
axes = sheet.axes(1, 2, sharey=True)
sheet.headline("A title", ["a line of the caption"])
return sheet.finish()
"""

from __future__ import annotations

import io
import os
from typing import Any, TypedDict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from ..errors import InputError
from .kit import checked, finished, headline

SHOWN_DPI = 100  # of a figure in a notebook
USUAL_WORDS, TALLEST = 0.7, 11.0  # inches of title and caption that figures are made for; of a figure


class Look(TypedDict, total=False):
    """Arguments that every plot takes: what is drawn on, and whether the figure says below what was run.

    Args:
        ax: a matplotlib Axes to draw on, for plots of one panel; its title is the plot's.
        fig: a matplotlib Figure or SubFigure without axes, to draw on instead of a new one.
        caption: False leaves away what was run, which else stands below the figure (never below an `ax`).
    """

    ax: Any
    fig: Any
    caption: bool


class Shown(Figure):
    """A figure that a notebook shows when it is a cell's last line, whether or not pyplot was imported."""

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=SHOWN_DPI, bbox_inches="tight", pad_inches=0.08)
        return data.getvalue()


class Sheet:
    """Where a plot goes, and what is written below it.

    Args:
        path: where the figure goes as well, .png, .pdf or .svg; None: it is only returned.
        ax, fig, caption: see `Look`.

    Raises:
        InputError: nothing can be written there, `ax` or `fig` cannot be drawn on, or plots take no such argument.

    Example:
        >>> from mlxtrace.plotting.sheet import Sheet
        >>> sheet = Sheet()
        >>> figure = sheet.open(3.0, 2.0)
        >>> len(sheet.axes(1, 2)[0])
        2
    """

    def __init__(
        self,
        path: str | os.PathLike | None = None,
        *,
        ax: Axes | None = None,
        fig: FigureBase | None = None,
        caption: bool = True,
        **other: Any,
    ) -> None:
        if other:
            raise InputError(
                f"plots take path, ax=, fig= and caption=, not {', '.join(f'{name}=' for name in other)}: "
                "sizes, titles and fonts are those of a figure of yours, fig=plt.figure(figsize=...)"
            )
        if ax is not None and fig is not None:
            raise InputError("ax= and fig= are two places to draw on: give one of them")
        if ax is not None and not isinstance(ax, Axes):
            raise InputError(f"ax={ax!r} is no matplotlib Axes: pass one, such as plt.subplots()[1]")
        if fig is not None and not isinstance(fig, FigureBase):
            raise InputError(
                f"fig={fig!r} is no matplotlib Figure or SubFigure: pass one, such as plt.figure()"
            )
        if fig is not None and (fig.axes or fig.subfigs):
            raise InputError(
                "fig= has axes already, which would be drawn over: pass an empty figure or subfigure, or ax="
            )
        if not isinstance(caption, (bool, np.bool_)):
            raise InputError(
                f"caption={caption!r} is neither True nor False: titles are set on what is returned"
            )
        self.path, self.ax, self.caption = checked(path), ax, bool(caption)
        self._given = fig
        self.said: list[str] = []  # what a caption has to say of what was drawn

    def open(self, width: float, height: float) -> FigureBase:
        """The figure to draw on: a new one of this size in inches, or the given one as large as it is."""
        if self.ax is not None:
            self.fig: FigureBase = self.ax.figure
        elif self._given is not None:
            self.fig = self._given
            whole = self.whole
            if whole.get_layout_engine() is None:
                whole.set_layout_engine("constrained")  # else titles and colour bars lie over each other
        else:
            self.fig = Shown(figsize=(width, height), layout="constrained")
        return self.fig

    @property
    def given(self) -> bool:
        """Whether it is drawn on something of the user's, whose size stays."""
        return self.ax is not None or self._given is not None

    @property
    def whole(self) -> Figure:
        """The figure that all is in, which is what is returned and written."""
        fig: Any = self.fig
        while not isinstance(fig, Figure):
            fig = fig.figure
        return fig

    @property
    def inches(self) -> tuple[float, float]:
        """Width and height of what is drawn on."""
        fig: Any = self.fig
        box = fig.bbox if self.ax is None else self.ax.get_window_extent()
        return float(box.width / fig.dpi), float(box.height / fig.dpi)

    def axes(self, rows: int = 1, columns: int = 1, **sharing: Any) -> np.ndarray:
        """Axes `[rows, columns]`; of an `ax` that was given, this one.

        Raises:
            InputError: there is one `ax`, and the plot has more panels.
        """
        if self.ax is None:
            return self.fig.subplots(rows, columns, squeeze=False, **sharing)
        if rows * columns > 1:
            raise InputError(
                f"this plot has {rows * columns} panels, and ax= is one: pass fig= (a Figure or SubFigure)"
            )
        return np.array([[self.ax]])

    def headline(self, title: str, caption: list[str]) -> None:
        """The title above, and below it what was run, unless it is not wanted."""
        if self.ax is not None:
            self.ax.set_title(title, fontsize=9, wrap=True)
        else:
            taken = headline(self.fig, title, [*caption, *self.said] if self.caption else [])
            if not self.given:
                height = self.inches[1]
                self.whole.set_figheight(max(height, min(height + max(0.0, taken - USUAL_WORDS), TALLEST)))

    def finish(self) -> Figure:
        """The whole figure, written if there is a path."""
        return finished(self.whole, self.path)
