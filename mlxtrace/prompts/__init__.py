"""Many prompts: pairs and facts, traced into a folder, resumed, averaged."""

from ..text.pair import Pair
from .pair_running import averages, run

__all__ = ["Pair", "averages", "run"]
