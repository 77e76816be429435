"""A fast BLAS for MLX on Linux: its wheel ships a reference one, 30-60 times slower in float32.

MLX calls BLAS by its plain names, so a library that is loaded with global symbols before `mlx.core`
answers in place of the bundled one. Nothing happens on macOS, where MLX uses Accelerate and Metal.

The environment variable MLXTRACE_BLAS names another library to load, or `none`: MLX's own is used.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import functools
import glob
import os
import sys
import warnings
from collections.abc import Callable, Iterator

_CURE = "`apt-get install libopenblas0-pthread` or `pip install mkl`"
_SLOW = "float32 on the CPU is 30-60 times slower"
_message: str | None = None


def _candidates() -> list[str]:
    """The libraries to try, in order; none where the environment asks for MLX's own."""
    if chosen := os.environ.get("MLXTRACE_BLAS"):
        return [] if chosen.lower() == "none" else [chosen]
    found = [ctypes.util.find_library(name) for name in ("openblas", "mkl_rt")]
    names = ["libopenblas.so.0", *(glob.glob(os.path.join(sys.prefix, "lib", "libmkl_rt.so*")))]
    return [name for name in [*found, *names] if name]


def _missing() -> str:
    """One line on why no library was loaded, and what to do."""
    if chosen := os.environ.get("MLXTRACE_BLAS"):
        why = "asks for no BLAS" if chosen.lower() == "none" else f"names {chosen!r}, which cannot be loaded"
        return f"MLXTRACE_BLAS {why}: {_SLOW}; unset it to use OpenBLAS or MKL"
    return f"no OpenBLAS or MKL found: {_SLOW}; {_CURE}"


def preload() -> None:
    """Load OpenBLAS or MKL ahead of MLX, or keep one line for `notice` that says why not."""
    global _message
    if not sys.platform.startswith("linux"):
        return
    if "mlx.core" in sys.modules:
        _message = (
            "mlx was imported before mlxtrace, so a fast BLAS could not be loaded ahead of it; "
            "on a CPU, import mlxtrace first (nothing else changes)"
        )
        return
    for name in _candidates():
        try:
            ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
            return
        except OSError:
            continue
    _message = _missing()


@contextlib.contextmanager
def numpy_in_one_thread() -> Iterator[None]:
    """NumPy brings a BLAS of its own; while its threads wait for work they take the cores from those of MLX's."""
    read, write = _threads_of_numpy()
    allowed = read()
    write(1)
    try:
        yield
    finally:
        write(allowed)


@functools.cache
def _threads_of_numpy() -> tuple[Callable, Callable]:
    """What reads and what sets the number of threads of NumPy's own BLAS; where it has none, what does nothing."""
    import numpy

    beside = os.path.join(os.path.dirname(os.path.dirname(numpy.__file__)), "numpy.libs")
    for path in glob.glob(os.path.join(beside, "libscipy_openblas*")):
        library = ctypes.CDLL(path)  # loaded already: this finds it
        for end in ("64_", ""):
            names = f"scipy_openblas_get_num_threads{end}", f"scipy_openblas_set_num_threads{end}"
            if all(hasattr(library, name) for name in names):
                return getattr(library, names[0]), getattr(library, names[1])
    return lambda: 1, lambda threads: None


def notice() -> None:
    """Warn of what `preload` had to say, once, when it matters: a model is there, and MLX computes on the CPU."""
    global _message
    message, _message = _message, None
    if message and _on_cpu():
        warnings.warn(message, stacklevel=3)


def _on_cpu() -> bool:
    import mlx.core as mx

    return mx.default_device() == mx.Device(mx.cpu)
