"""What the figures of this room are made with, and the words that the printed figures have."""

from __future__ import annotations

from ..errors import InputError
from ..plotting.colours import AUDIT, FRAME, HELPS, HURTS, NODES, THRESHOLD, VERIFIED
from ..plotting.heatmaps import Map, Scale
from ..plotting.kit import capital, colour_of, family
from ..plotting.labels import (
    NATURAL,
    WITHIN,
    describe,
    over,
    position_label,
    probability,
    quoted,
    run_lines,
    words_of,
)
from .bars import Bars, bar_figure
from .crops import heads_that_fit, numbered, refuse_rows, rows_that_matter, strongest_lines, tokens_that_fit
from .frame import dress, rgb
from .html import checked, finished, plotly
from .map_grid import Hover, colour_scale, facets, slides
from .texts import prompts, safe, short, token

__all__ = [
    "AUDIT",
    "FRAME",
    "HELPS",
    "HURTS",
    "NATURAL",
    "NODES",
    "THRESHOLD",
    "VERIFIED",
    "WITHIN",
    "Bars",
    "Hover",
    "InputError",
    "Map",
    "Scale",
    "bar_figure",
    "capital",
    "checked",
    "colour_of",
    "colour_scale",
    "describe",
    "dress",
    "facets",
    "family",
    "finished",
    "heads_that_fit",
    "numbered",
    "over",
    "plotly",
    "position_label",
    "probability",
    "prompts",
    "quoted",
    "refuse_rows",
    "rgb",
    "rows_that_matter",
    "run_lines",
    "safe",
    "short",
    "slides",
    "strongest_lines",
    "token",
    "tokens_that_fit",
    "words_of",
]
