"""The processes of a run that `mlx.launch` started: which one this is, and waiting for all of them.

Each process is a worker, which does a share of the prompts; or several of them are one, that hold a model together.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import mlx.core as mx
import numpy as np

from .. import errors
from ..results.saved import Saved
from . import links

LAUNCHED = ("MLX_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")  # set for the processes of a distributed run
HOW = "mlx.launch -n 2 --backend ring python ..."
T = TypeVar("T")


class Ranks:
    """This process among the workers of a run; alone when there is no group.

    rank, size: of its worker, and how many there are. leads: it is the one process of its worker that reads and writes
    files; the others, which hold shares of the same model, are told what it found.

    Args:
        group: of all processes; default: that of `mlx.launch`.
        sharded: the processes that hold this one's model together; None: it is whole.
    """

    def __init__(
        self, group: mx.distributed.Group | None = None, sharded: mx.distributed.Group | None = None
    ):
        self._links = links.join() if _ring_size and group is None else None
        if group is None and self._links is None and any(name in os.environ for name in LAUNCHED):
            group = mx.distributed.init()
        self._group, self._sharded = group, sharded
        self.leads = sharded is None or sharded.rank() == 0
        if self._links is not None:
            each = 1 if sharded is None else sharded.size()
            self.rank, self.size = self._links.rank // each, self._links.size // each
            return
        self.rank, self.size = (0, 1) if group is None else (group.rank(), group.size())
        if sharded is not None and self.size <= sharded.size():
            self._group, self.rank, self.size = sharded, 0, 1
        elif sharded is not None:
            self.rank, self.size = self._workers()

    def _workers(self) -> tuple[int, int]:
        """Which of the groups that a larger one was split into this process is in, and how many there are."""
        before = self._sum([int(self.leads and i > self.rank) for i in range(self.size)], self._group)
        first = before[self.rank] if self.leads else 0
        return self._sum([first], self._sharded)[0], self._sum([int(self.leads)], self._group)[0]

    def _sum(self, numbers: list[int], group: Any) -> list[int]:
        found: Any = mx.distributed.all_sum(mx.array(numbers), group=group, stream=mx.cpu)
        mx.eval(found)  # which raises when a process is lost
        return found.tolist()

    def wait(self) -> None:
        """Until every process is here."""
        self.total(1)

    def total(self, number: int) -> int:
        """The sum of a number over all workers, once every process is here."""
        number = number if self.leads else 0
        if self._links is not None:
            return self._links.total(number)
        if self._sharded is None and self.size == 1:
            return number
        return self._sum([number], self._group)[0]

    def led(self, work: Callable[[], T]) -> T:
        """What work returns (anything that JSON holds) in the process that leads; its errors are raised in all."""
        if self._sharded is None:
            return work()
        found: dict[str, Any] = {}
        failed: Exception | None = None
        if self.leads:
            try:
                found = {"value": work()}
            except Exception as error:  # of any kind: the others wait to hear of it
                failed, found = error, {"error": type(error).__name__, "why": str(error)}
        found = json.loads(self._shared(json.dumps(found).encode()))
        if failed is not None:
            raise failed
        if "error" in found:
            kind, text = getattr(errors, found["error"], None), f"{found['error']}: {found['why']}"
            raise RuntimeError(text) if kind is None else kind(found["why"])
        return found["value"]

    def result(self, work: Callable[[], T]) -> T:
        """The result that work returns in the process that leads, in all: the others read it from a file of its own."""
        if self._sharded is None:
            return work()
        with tempfile.TemporaryDirectory() as folder:
            path, made = Path(folder, "result.npz"), []

            def save() -> None:
                made.append(work())
                made[0].save(path)

            self.led(save)
            data = self._shared(path.read_bytes() if self.leads else b"")
            if self.leads:
                return made[0]
            path.write_bytes(data)
            return Saved.load(path)

    def _shared(self, data: bytes) -> bytes:
        """The bytes of the process that leads."""
        [size] = self._sum([len(data) if self.leads else 0], self._sharded)
        own = np.frombuffer(data, np.uint8) if self.leads else np.zeros(size, np.uint8)
        found: Any = mx.distributed.all_sum(mx.array(own), group=self._sharded, stream=mx.cpu)
        mx.eval(found)
        return bytes(np.array(found))


# ---- a model that several processes hold together

_ring_size = 0  # of the rings that one was made into; 0: it was not


def sharing(shard: Any) -> mx.distributed.Group | None:
    """The group that a `shard=` argument asks for, with links between all processes; None where the model stays whole.

    Args:
        shard: True or "pipeline", all processes that `mlx.launch` has started; a number, so many of them for each copy
            of the model; or a group.

    InputError for a number that does not divide them, and for anything else.
    """
    if shard is None or shard is False:
        return None
    if isinstance(shard, mx.distributed.Group) or (hasattr(shard, "rank") and hasattr(shard, "size")):
        links.join()
        return shard if shard.size() > 1 else None
    if shard != "pipeline" and (not isinstance(shard, int) or shard < 1):
        raise errors.InputError(
            f"shard={shard!r}: True shards the model over all processes that mlx.launch has started, a number over so "
            'many of them, and a group (mx.distributed.init()) over those of the group; "pipeline" deals its layers '
            "out to all"
        )
    if isinstance(shard, int) and shard is not True:
        return _of_several(shard)
    links.join()
    group = mx.distributed.init()
    if _ring_size and group.size() != (links.Places(os.environ).size or 1):
        raise errors.InputError(
            f"shard={shard!r} after shard={_ring_size}: the rings are made once in a process"
        )
    if group.size() == 1:
        warnings.warn(
            f"shard={shard!r}, but there is one process, so the model is whole: start it with {HOW}",
            stacklevel=3,
        )
        return None
    return group


def _of_several(each: int) -> mx.distributed.Group | None:
    """One group of so many processes, this one's own, of all that were launched."""
    if each == 1:
        return None
    launched = any(name in os.environ for name in LAUNCHED)
    places = links.Places(os.environ)
    ring = bool(os.environ.get("MLX_HOSTFILE"))
    size = places.size if ring or not launched else mx.distributed.init().size()
    if size % each:
        raise errors.InputError(
            f"shard={each}: {size} process{'' if size == 1 else 'es'} cannot be dealt out to models of {each} each: "
            f"start a multiple of {each}, with {HOW.replace('-n 2', f'-n {each}')}"
        )
    links.join()
    if size == each:
        return mx.distributed.init()
    if ring:
        return _own_ring(places.rank, each)
    world = mx.distributed.init()
    try:
        return world.split(world.rank() // each, world.rank())
    except RuntimeError as error:
        raise errors.InputError(
            f"shard={each} of {size} processes: MLX cannot split their group ({error}); use --backend ring or mpi"
        ) from error


def _own_ring(rank: int, each: int) -> mx.distributed.Group:
    """A ring of this process and its neighbours, which is MLX's group from now on: its rings cannot be split."""
    global _ring_size
    kept = {name: os.environ[name] for name in ("MLX_RANK", "MLX_HOSTFILE")}
    hosts, first = json.loads(Path(kept["MLX_HOSTFILE"]).read_text()), rank // each * each
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "hosts.json")
        file.write_text(json.dumps(hosts[first : first + each]))
        os.environ.update(MLX_RANK=str(rank - first), MLX_HOSTFILE=str(file))
        try:
            group = mx.distributed.init(backend="ring")
        finally:
            os.environ.update(kept)
    if group.size() != each:
        raise errors.InputError(
            f"shard={each}: mx.distributed.init() was called before, and has made one ring of all {group.size()} "
            "processes: load the model first"
        )
    _ring_size = each
    return group
