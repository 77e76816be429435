"""Passes at the same time: on a CPU every thread that BLAS may use gets a share of a pass's cells.

MLX computes all but matmuls in one thread, and on a CPU an activation function takes about as long as the matmuls
around it. So the cells of a large pass are cut into lanes: each is a pass of its own, on a stream and in a thread of
its own, in which BLAS calls run too. No more threads are busy than BLAS was allowed, but all of them are.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from .runs import evaluate_by_layer

FEWEST = 32  # cells: a pass of fewer is not cut
MOST_LANES = 8  # more were not tried
LONG = 64  # tokens: attention over a longer prompt is computed while its pass is built, which has one thread
# Of a lane, the least that pays: tokens in a layer, because each lane reads the weights; and tokens x layers x width,
# because building its graph costs time.
LEAST_TOKENS, LEAST_WORK = 128, 1 << 19
# How a BLAS says how many threads it uses, and is told.
SPELLINGS = (
    ("openblas_get_num_threads", "openblas_set_num_threads"),
    ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
)
_one_sweep = threading.Lock()
_of_thread = threading.local()


def cut(cells: Sequence[Any], request: Any) -> list[list[Any]]:
    """The cells of a pass in lanes of about equal work, those together that start late; each in order of birth.

    Args:
        cells: `plan.PlannedCell`s. request: the `plan.Request` that they are of.
    """
    resolver, length = request.resolver, request.length
    ordered = sorted(cells, key=lambda cell: (cell.prompt, cell.start, cell.birth))
    layers = [resolver.n_layers + 1 - max(cell.birth, 0) for cell in ordered]
    work = np.array(layers, dtype=float) * [request.block * (length - cell.start) for cell in ordered]
    tokens, width = work.sum() / resolver.n_layers, resolver.structure.d_model
    least = max(LEAST_TOKENS, LEAST_WORK / (resolver.n_layers * width))
    lanes = min(threads(resolver), MOST_LANES, int(tokens // least))
    if lanes < 2 or length >= LONG:
        return [list(cells)]
    found: list[list[Any]] = [[] for _ in range(lanes)]
    for cell, middle in zip(ordered, (work.cumsum() - work / 2) / work.sum(), strict=True):
        found[int(lanes * middle)].append(cell)
    return [sorted(lane, key=lambda cell: cell.birth) for lane in found if lane]


def run_together(batches: Sequence[Any]) -> list[np.ndarray]:
    """The logits of some passes (`batch.Batch`), computed at the same time."""
    begun: list[mx.array] = []
    steps: list[list[mx.array]] = []
    with _one_thread_each():
        for batch, stream in zip(batches, _streams(), strict=False):
            steps.append([])
            evaluate_by_layer(batch.hooks, run=steps[-1].append)
            with mx.stream(stream):
                begun.append(batch.begin())
        for step in zip(
            *steps, strict=True
        ):  # layer by layer: MLX starts little more than it computes at once
            mx.async_eval(step)
        mx.eval(begun)
    return [batch.end(logits) for batch, logits in zip(batches, begun, strict=True)]


def threads(resolver: Any) -> int:
    """How many threads the BLAS ahead of MLX uses; 1 where it does not say, on an accelerator, and for a sharded model.

    The processes of a sharded model must meet in the same order, which streams side by side do not keep.
    """
    read, _ = _blas()
    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    return read() if read and on_cpu and getattr(resolver, "group", None) is None else 1


@functools.cache
def _blas() -> tuple[Any, Any]:
    """What reads and what sets the threads of the BLAS that `mlxtrace.blas` loaded; twice None: there is none."""
    everything = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    for read, write in SPELLINGS:
        if hasattr(everything, read) and hasattr(everything, write):
            return getattr(everything, read), getattr(everything, write)
    return None, None


def _streams() -> list[mx.Stream]:
    """Streams of the thread that asks, made once: MLX keeps them, each with a thread, until the process ends."""
    if not hasattr(_of_thread, "streams"):
        _of_thread.streams = [mx.new_stream(mx.cpu) for _ in range(MOST_LANES)]
    return _of_thread.streams


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """BLAS runs in the thread that calls it. For one sweep at a time: each puts back what it found."""
    read, write = _blas()
    if read is None:  # MLX's own has one anyway
        yield
        return
    with _one_sweep:
        allowed = read()
        write(1)
        try:
            yield
        finally:
            write(allowed)
