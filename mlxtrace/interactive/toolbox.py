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
    joint,
    model_name,
    over,
    position_label,
    probability,
    quoted,
    run_lines,
    words_of,
)
from ..plotting.protocols import (
    Averaged,
    ComparedAverages,
    ComparedTraces,
    Effects,
    NoisedButAWindow,
    Panel,
    Patched,
    Subtracted,
    Traced,
)
from ..plotting.recoveries import row_labels, scale_of, words_of_metric
from .bars import Bars, bar_figure
from .crops import heads_that_fit, numbered, refuse_rows, rows_that_matter, strongest_lines, tokens_that_fit
from .frame import dress, rgb
from .html import checked, finished, plotly
from .map_grid import Hover, colour_scale, facets, slides
from .texts import ROOM, prompts, safe, short, token

__all__ = [
    "AUDIT",
    "FRAME",
    "HELPS",
    "HURTS",
    "NATURAL",
    "NODES",
    "ROOM",
    "THRESHOLD",
    "VERIFIED",
    "WITHIN",
    "Averaged",
    "Bars",
    "ComparedAverages",
    "ComparedTraces",
    "Effects",
    "Hover",
    "InputError",
    "Map",
    "NoisedButAWindow",
    "Panel",
    "Patched",
    "Scale",
    "Subtracted",
    "Traced",
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
    "joint",
    "model_name",
    "numbered",
    "over",
    "plotly",
    "position_label",
    "probability",
    "prompts",
    "quoted",
    "refuse_rows",
    "rgb",
    "row_labels",
    "rows_that_matter",
    "run_lines",
    "safe",
    "scale_of",
    "short",
    "slides",
    "strongest_lines",
    "token",
    "tokens_that_fit",
    "words_of",
    "words_of_metric",
]
