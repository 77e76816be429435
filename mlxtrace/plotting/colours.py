"""All colours of figures, tables and pages: told apart with any colour vision, and on light and dark grounds.

Purple is the residual stream, green the MLP, red attention (Meng et al. 2022, figure 1). One in twelve men
does not tell red from green: what stands side by side differs in lightness or blueness as well. A test simulates it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, to_hex, to_rgb

ORCHID = ("#f9f5f8", "#eedaec", "#e2bade", "#d497d0", "#c06ebc", "#a746a5", "#882788", "#681467", "#410b40")
PALETTES: dict[str, tuple[str, str]] = {  # above and below no effect
    "resid": ("Purples", "Oranges"),
    "mlp": ("Greens", "Orchids"),
    "attn": ("Reds", "Blues"),
}
ROLES = ("#c9b3e6", "#8a6fc7", "#3b1f77", "#f2b701", "#7f7f7f", "#c0392b")  # first token to last
SERIES = ("#1f3a5f", "#e08214", "#8fb8de", "#b2182b")  # results side by side: apart in grey as well
MORE, LESS = "#5e3c99", "#e08214"  # of a difference
HELPS, HURTS = "#2166ac", "#b2182b"  # the clean answer
NODES = {"a": "#fcae91", "m": "#d9f0d3", "e": "#cbc9e2", "l": "#cbc9e2"}  # heads, MLPs, embedding, logits
VERIFIED, AUDIT, THRESHOLD = "#2166ac", "#969696", "#b2182b"  # of a screen
FRAME = "#e6550d"  # of a cell: seen on white and on the darkest colours
PALE = 0.08  # where on its palette the least effect is
DARK = 0.18  # luminance of a ground that black is hard to read on
LEAST_CONTRAST = 3.0  # of lines with a dark ground (WCAG 2.1, 1.4.11)


def palette(name: str) -> Colormap:
    """A colormap from nearly white to dark: one of matplotlib's, or "Orchids", the opposite of green."""
    return LinearSegmentedColormap.from_list(name, ORCHID) if name == "Orchids" else mpl.colormaps[name]


def shades(family: str, parts: np.ndarray, flip: bool = False) -> np.ndarray:
    """The colours of effects as parts of the scale, from -1 to 1: white at 0, `[..., 4]`.

    flip: the family's own colour is below 0.
    """
    up, down = PALETTES[family][:: -1 if flip else 1]
    steps = np.asarray(parts, float)
    size = PALE + (1 - PALE) * np.abs(steps)  # little is told apart from nothing
    above, below = (palette(name)(size) for name in (up, down))
    colours = np.where(steps[..., None] >= 0, above, below)
    tint = np.minimum(np.abs(steps) / 0.05, 1)[..., None]  # palettes start off-white: nothing must be white
    return 1 - tint + tint * colours


def diverging(family: str, flip: bool = False) -> Colormap:
    """A scale that is as long above no effect as below."""
    return ListedColormap(shades(family, np.linspace(-1, 1, 511), flip))


def tint(family: str, below: bool = False) -> str:
    """The colour of the strongest cells of a table, "r,g,b" as CSS has it; their opacity is the effect's size."""
    colour = palette(PALETTES[family][below])(0.75)
    return ",".join(str(round(255 * part)) for part in colour[:3])


def series(n: int) -> list[str]:
    """As many colours, apart in lightness as well."""
    if n <= len(SERIES):
        return list(SERIES[:n])
    first = 0.35 if _dark() else 0.05
    return [to_hex(colour) for colour in mpl.colormaps["viridis"](np.linspace(first, 0.95, n))]


def ink(strength: float = 1.0) -> str:
    """The colour of lines and texts: from 0, the ground, to 1, as the style writes."""
    ground, text = (np.array(to_rgb(mpl.rcParams[key])) for key in ("axes.facecolor", "text.color"))
    return to_hex(tuple((ground + strength * (text - ground)).tolist()))


def seen(colour: Any) -> Any:
    """The colour of a line or bar; where the style's ground is dark and it would vanish, lighter."""
    if not _dark():
        return colour
    ground, mixed = _luminance(to_rgb(mpl.rcParams["axes.facecolor"])), np.array(to_rgb(colour))
    while (_luminance(mixed) + 0.05) / (ground + 0.05) < LEAST_CONTRAST:
        mixed = mixed + 0.05 * (1 - mixed)
    return tuple(mixed.tolist())


def _dark() -> bool:
    """Whether the style writes in a light colour on a dark ground."""
    return _luminance(to_rgb(mpl.rcParams["axes.facecolor"])) < DARK


def _luminance(colour: Sequence[float] | np.ndarray) -> float:
    """Relative luminance (WCAG 2.1): 0 is black, 1 white."""
    rgb = np.asarray(colour, float)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))
