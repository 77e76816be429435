"""Many prompts: pairs and facts, traced into a folder, resumed, averaged."""

from ..text.pair import Pair

__all__ = ["Pair"]
