"""How results look: figures that are returned, and written to PNG, PDF or SVG when a path is given.

plotting.plot(result, "map.png")
plotting.rome_heatmap(trace.scores, trace.tokens, low=trace.low_score)

Tokens run down the y axis with the subject's marked `*`, layers along the x axis; purple is the residual stream, green
the MLP, red attention (Meng et al. 2022, figure 1).
"""

from .compared import compare
from .effects import effects, noising
from .fact_averages import average_lines, average_maps, compared_averages
from .kit import check_path, save
from .path_maps import path_map
from .patterns import attention_pattern, head_heatmap
from .recoveries import plot
from .sheet import Look as Look
from .traces import comparison, rome_heatmap, severed

__all__ = [
    "attention_pattern",
    "average_lines",
    "average_maps",
    "check_path",
    "compare",
    "compared_averages",
    "comparison",
    "effects",
    "head_heatmap",
    "noising",
    "path_map",
    "plot",
    "rome_heatmap",
    "save",
    "severed",
]


def __dir__() -> list[str]:
    """What users call; the files that it stands in are not shown."""
    return __all__
