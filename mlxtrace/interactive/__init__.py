"""Figures to look around in: hovering says what a cell is. They need plotly: pip install plotly.

result.explore()                          # a plotly Figure, which a notebook shows
result.explore("map.html")                # the same as one file that needs no network
interactive.attention(patterns, tokens)   # where many heads look
"""

from .attention_heads import attention
from .circuit_nodes import circuit, curve
from .difference_maps import differences
from .edge_tables import edges, paths
from .effect_bars import effects, noising
from .html import div, script, write
from .recovery_maps import recoveries
from .screen_points import screen
from .token_hover import lens, patchscope, patchscope_map
from .trace_maps import averages, compared_averages, comparison, trace

__all__ = [
    "attention",
    "averages",
    "circuit",
    "compared_averages",
    "comparison",
    "curve",
    "differences",
    "div",
    "edges",
    "effects",
    "lens",
    "noising",
    "patchscope",
    "patchscope_map",
    "paths",
    "recoveries",
    "screen",
    "script",
    "trace",
    "write",
]


def __dir__() -> list[str]:
    """What users call; the files that it stands in are not shown."""
    return __all__
