"""Many prompts: pairs, tasks and facts, loaded, traced into a folder, resumed, averaged."""

from ..text.pair import Pair
from .folder_reading import averages
from .pair_files import load
from .pair_running import run
from .pair_saving import save
from .suitable import Suitable, suitable
from .tasks import fact_pairs, gender, greater_than, greater_than_metric, induction, ioi

__all__ = [
    "Pair",
    "Suitable",
    "averages",
    "fact_pairs",
    "gender",
    "greater_than",
    "greater_than_metric",
    "induction",
    "ioi",
    "load",
    "run",
    "save",
    "suitable",
]
