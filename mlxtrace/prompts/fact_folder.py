"""The folder of a run over facts: a trace for each fact and kind, and the facts that the model gets wrong."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from ..results.causal_trace_result import CausalTrace
from .run_folder import Folder


class FactFolder(Folder):
    """The files of one run over facts."""

    item, items, room, noun = "fact", "facts", "traces", "trace"
    parts: ClassVar = {None: "state", "mlp": "mlp", "attn": "attn"}
    texts = ("id", "subject", "prompt", "attribute", "why")

    def load(self, path: Path) -> CausalTrace:
        """The trace in a file; LoadError when there is none, or it is damaged."""
        return CausalTrace.load(path)

    def part_of(self, result: CausalTrace) -> str | None:
        """The kind of a trace."""
        return result.kind

    def is_complete(self, result: CausalTrace) -> bool:
        """Whether there is a number for every position, as a run over facts makes them."""
        raw, tokens = result.raw, result.tokens
        if result.kind not in list(self.parts) or raw.dtype != np.float64 or not isinstance(tokens, list):
            return False
        return raw.ndim == 3 and len(raw) == len(tokens) and bool(np.isfinite(result.scores).all())
