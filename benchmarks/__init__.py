"""Benchmarks: `python -m benchmarks.sweep` measures, checks and draws; RESULTS.md says what was found.

Imported before anything else, because the number of threads and the fast BLAS are settled when libraries load.
"""

import os

THREADS = int(os.environ.setdefault("OPENBLAS_NUM_THREADS", "2"))
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import mlxtrace  # noqa: E402, F401
