"""The processes of a run that `mlx.launch` started: which one this is, and waiting for all of them."""

from __future__ import annotations

import os
from typing import Any

import mlx.core as mx

LAUNCHED = ("MLX_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")  # set for the processes of a distributed run


class Ranks:
    """This process among those of a group; alone when there is no group."""

    def __init__(self, group: mx.distributed.Group | None = None):
        if group is None and any(name in os.environ for name in LAUNCHED):
            group = mx.distributed.init()
        self._group = group
        self.rank, self.size = (0, 1) if group is None else (group.rank(), group.size())

    def wait(self) -> None:
        """Until every process is here."""
        self.total(1)

    def total(self, number: int) -> int:
        """The sum of a number over all processes, once every one of them is here."""
        if self.size == 1:
            return number
        found: Any = mx.distributed.all_sum(mx.array([number]), group=self._group, stream=mx.cpu)
        return int(found.item())
