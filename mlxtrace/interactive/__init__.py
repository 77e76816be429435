"""Figures to look around in: hovering says what a cell is. They need plotly: pip install "mlxtrace[explore]".

result.explore()                          # a plotly Figure, which a notebook shows
result.explore("map.html")                # the same as one file that needs no network
interactive.attention(patterns, tokens)   # where many heads look
"""

from .html import div, script, write
from .recovery_maps import recoveries

__all__ = ["div", "recoveries", "script", "write"]


def __dir__() -> list[str]:
    """What users call; the files that it stands in are not shown."""
    return __all__
