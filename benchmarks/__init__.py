"""Benchmarks: `python -m benchmarks.sweep` measures, checks and draws; RESULTS.md says what was found.

Imported before anything else, because the number of threads and the fast BLAS are settled when libraries load.
"""

import os

THREADS = int(os.environ.setdefault("OPENBLAS_NUM_THREADS", "2"))
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import mlxtrace  # noqa: E402, F401
from mlxtrace.engine import lanes  # noqa: E402


def use_threads(threads: int) -> None:
    """Let the BLAS of this process use so many threads from here on."""
    _, write = lanes._blas()
    if write:
        write(threads)
