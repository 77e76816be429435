"""What is run, as whoever runs it sees it."""

from __future__ import annotations

from typing import Any, Protocol

import mlx.core as mx
import numpy as np


class Rows(Protocol):
    """What goes into a pass as rows of a batch: one prompt (a `Run`), or several of one length (`Runs`).

    each: rows of each member; they come one member after the other. noised: where any of them has noise.
    """

    @property
    def members(self) -> tuple[Any, ...]: ...
    @property
    def rows(self) -> int: ...
    @property
    def each(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def noised(self) -> tuple[int, ...]: ...

    def tokens(self, rows: np.ndarray, start: int = 0) -> mx.array: ...

    def embedded(self, x: mx.array, rows: np.ndarray, start: int = 0) -> mx.array: ...
