"""A fast BLAS for MLX on Linux: its wheel ships a reference one, 30-60 times slower in float32.

MLX calls BLAS by its plain names, so a library that is loaded with global symbols before `mlx.core`
answers in place of the bundled one. Nothing happens on macOS, where MLX uses Accelerate and Metal.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import glob
import os
import sys

_CURE = "`apt-get install libopenblas0-pthread` or `pip install mkl`"
_message: str | None = None


def _candidates() -> list[str]:
    found = [ctypes.util.find_library(name) for name in ("openblas", "mkl_rt")]
    names = ["libopenblas.so.0", *(glob.glob(os.path.join(sys.prefix, "lib", "libmkl_rt.so*")))]
    return [name for name in [*found, *names] if name]


def preload() -> None:
    """Load OpenBLAS or MKL ahead of MLX, or keep one line for `notice` that says why not."""
    global _message
    if not sys.platform.startswith("linux"):
        return
    if "mlx.core" in sys.modules:
        _message = (
            "mlxtrace: mlx was imported before mlxtrace, so a fast BLAS could not be loaded ahead of it; "
            "on a CPU, import mlxtrace first (nothing else changes)"
        )
        return
    for name in _candidates():
        try:
            ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
            return
        except OSError:
            continue
    _message = f"mlxtrace: no OpenBLAS or MKL found, float32 on the CPU is 30-60 times slower; {_CURE}"


def notice() -> None:
    """Print what `preload` had to say, once, when it matters: MLX is about to compute on the CPU."""
    global _message
    if _message and _on_cpu():
        print(_message, file=sys.stderr)
    _message = None


def _on_cpu() -> bool:
    import mlx.core as mx

    return mx.default_device() == mx.Device(mx.cpu)
