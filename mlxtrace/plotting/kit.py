"""What every figure is made with: fonts, colours, ticks, titles, texts as matplotlib draws them, and the file.

Purple is the residual stream, green the MLP, red attention (Meng et al. 2022, figure 1). Figures are returned, never
shown, and unknown to pyplot.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ..anatomy.components import COMPONENTS
from ..errors import InputError
from ..storage import writable, write_atomic
from ..terminal import printable
from .colours import PALETTES, ink, palette, seen
from .glyphs import drawable, families, notes
from .room import fitted, tick

SUFFIXES = (".png", ".pdf", ".svg")
DPI = 200
TITLE, CAPTION = 10.5, 8.0  # points
TITLE_LINES, CAPTION_LINES = (
    3,
    3,
)  # of the title, and of each part of a caption; longer ones are cut in the middle
WHISKERS = {"fmt": "none", "elinewidth": 0.9, "capthick": 0.9}
WHISKERS_MEAN = "whiskers: 95 % intervals over the pairs"


# ---- the file


def check_path(path: str | os.PathLike) -> Path:
    """The path, once it is known that a figure can be written there: call it before a long computation.

    Args:
        path: where a figure is to go; its folder exists.

    Returns:
        The path, `~` resolved.

    Raises:
        InputError: when nothing can be written there, or the suffix is none of .png, .pdf and .svg.

    Example:
        >>> from mlxtrace import plotting
        >>> plotting.check_path("figure.png").name
        'figure.png'
    """
    path = writable(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"cannot write a figure as {path.suffix or 'a file without suffix'}: use {', '.join(SUFFIXES)}"
        )
    return path


def save(fig: Figure, path: str | os.PathLike) -> Path:
    """Write the figure as PNG (200 dpi), PDF or SVG, by suffix, whole or not at all.

    Args:
        fig: a matplotlib Figure, such as every function of `plotting` returns.
        path: where it goes.

    Returns:
        The path.

    Raises:
        InputError: when nothing can be written there, or the suffix is none of .png, .pdf and .svg.

    Example:
        >>> import tempfile
        >>> from mlxtrace import plotting
        >>> figure = plotting.head_heatmap([[1.0, 0.0], [0.0, 2.0]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plotting.save(figure, f"{folder}/heads.pdf").name
        'heads.pdf'
    """
    path, data = check_path(path), io.BytesIO()
    with mpl.rc_context({"pdf.fonttype": 42}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box is drawn: better than no figure
        fig.savefig(data, format=path.suffix[1:].lower(), dpi=DPI, bbox_inches="tight", pad_inches=0.08)
    return write_atomic(path, data.getvalue())


def checked(path: str | os.PathLike | None) -> Path | None:
    """The path that a figure is to be written to, before it is drawn; None when it is only returned."""
    return None if path is None else check_path(path)


def finished(fig: Figure, path: Path | None) -> Figure:
    """The figure, written if there is a path."""
    if path is not None:
        save(fig, path)
    return fig


# ---- looks


def style() -> Any:
    """The context that figures are drawn in."""
    return mpl.rc_context(
        {
            "font.family": families(),
            "font.size": 9,
            "axes.titlesize": 9,
            "axes.labelsize": 9,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "axes.linewidth": 0.6,
        }
    )


def family(component: str | None) -> str:
    """Whose colours a component has: "resid", "mlp" or "attn"; None: those of layer outputs."""
    return COMPONENTS[component or "resid_post"].colour


def colour_of(component: str | None, shade: float = 0.7) -> Any:
    """A component's colour, from 0 (white) to 1 (darkest); None: of layer outputs."""
    return seen(palette(PALETTES[family(component)][0])(shade))


def ticks(axis: Any, labels: list[str], most: int, offset: float = 0.0) -> None:
    """Every label, or every 2nd, 5th, 10th ... when there are more than `most`, or than the axis has room for."""
    tick(axis, [i + offset for i in range(len(labels))], [escape(x) for x in labels], most)


def plain_axes(ax: Any) -> None:
    """Axes of bars and lines: a faint grid behind them, and no frame above and to the right."""
    ax.grid(axis="y", color=ink(0.1), linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def least_span(ax: Any, least: float, base: float = 0.0) -> None:
    """Make the y axis go at least so far from the value that means nothing happened: nothing is no finding."""
    low, high = ax.get_ylim()
    if max(high - base, base - low) < least:
        ax.set_ylim(base - least, base + least)


def whiskers(ax: Any, at: Any, values: np.ndarray, halves: np.ndarray | None, width: float = 0.8) -> None:
    """The interval of each bar that has one; `width` of a bar, for the caps."""
    if halves is None or np.isnan(halves).all():
        return
    inches = 0.8 * ax.figure.bbox.width / ax.figure.dpi / max(len(values), 1) * width
    ax.errorbar(
        at,
        values,
        yerr=np.nan_to_num(halves),
        capsize=float(np.clip(8 * inches, 1, 3)),
        ecolor=ink(0.85),
        **WHISKERS,
    )


def headline(fig: Any, text: str, caption: list[str]) -> float:
    """The title above, what was run below, both wrapped to the figure's width; the inches that both take."""
    inches = 0.965 * fig.bbox.width / fig.dpi - 0.15  # letters are drawn a little wider on a screen
    height = 0.0
    if text:
        parts = [fitted(part, inches, TITLE, TITLE_LINES, bold=True) for part in escape(text).split("\n")]
        lines = [line for of_one in parts for line in of_one]
        fig.suptitle("\n".join(lines), fontsize=TITLE, fontweight="bold")
        height += len(lines) * TITLE / 55
    if caption:
        caption = [*caption, *notes([*_labels(fig), *map(escape, (text, *caption))])]
        told = [escape(line.replace("\n", "\\n")) for line in caption]
        glued = [line.replace('" ', '"\u00a0') for line in told]  # no break between answer and number
        wrapped = [fitted(line, inches, CAPTION, CAPTION_LINES, indent="    ") for line in glued]
        lines = [line for of_one in wrapped for line in of_one]
        fig.supxlabel("\n".join(lines), fontsize=CAPTION, color=ink(0.75), x=0.01, ha="left")
        height += len(lines) * CAPTION / 55
    return height


def _labels(fig: Any) -> list[str]:
    """The texts that stand in the axes of a figure."""
    found = []
    for ax in fig.axes:
        formatters = (axis.get_major_formatter() for axis in (ax.xaxis, ax.yaxis))
        found += [label for known in formatters for label in getattr(known, "texts", {}).values()]
        found += [ax.get_title(), ax.get_xlabel(), ax.get_ylabel(), *(text.get_text() for text in ax.texts)]
    return found


# ---- texts


def token_label(token: str) -> str:
    """A token as an axis label: spaces as `·`, line breaks as `↵`, cut to 18 characters, `$` not math."""
    text = token.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥")
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return escape(text if len(text) <= 18 else text[:17] + "…")


def token_labels(
    tokens: Sequence[str], subject: Collection[int] | None, positions: Sequence[int] | None = None
) -> list[str]:
    """The labels of the tokens at some positions (None: of all), those of the subject with `*`."""
    positions = range(len(tokens)) if positions is None else positions
    stars = ["*" if subject is not None and p in subject else "" for p in positions]
    return [token_label(tokens[p]) + star for p, star in zip(positions, stars, strict=True)]


def escape(text: str) -> str:
    """The text as matplotlib draws it literally, not as math; what no font can draw as its code; once is enough."""
    return re.sub(r"(?<!\\)\$", r"\\$", drawable(printable(text)))


def capital(text: str) -> str:
    """The text with its first letter large."""
    return text[:1].upper() + text[1:]
