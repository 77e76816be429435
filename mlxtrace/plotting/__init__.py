"""How results look: figures that are returned, and written to PNG, PDF or SVG when a path is given.

plotting.plot(result, "map.png")
plotting.rome_heatmap(trace.scores, trace.tokens, low=trace.low_score)
"""

from .causal_figures import average_lines, average_maps, comparison, effects, noising, severed
from .maps import attention_pattern, check_path, head_heatmap, plot, rome_heatmap, save

__all__ = [
    "attention_pattern",
    "average_lines",
    "average_maps",
    "check_path",
    "comparison",
    "effects",
    "head_heatmap",
    "noising",
    "plot",
    "rome_heatmap",
    "save",
    "severed",
]
