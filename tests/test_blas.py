"""Which library is loaded ahead of MLX, and what is said when there is none."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from mlxtrace import blas


@pytest.fixture
def linux(monkeypatch):
    """A Linux on which nothing was imported, loaded or asked for; `loaded` lists the libraries that are."""
    loaded: list[str] = []
    monkeypatch.delenv("MLXTRACE_BLAS", raising=False)
    monkeypatch.setattr(blas.sys, "platform", "linux")
    monkeypatch.setattr(blas.sys, "modules", {n: m for n, m in sys.modules.items() if n != "mlx.core"})
    monkeypatch.setattr(blas, "_message", None)
    monkeypatch.setattr(blas, "_on_cpu", lambda: True)
    monkeypatch.setattr(blas.ctypes.util, "find_library", lambda name: f"lib{name}.so")
    monkeypatch.setattr(blas.ctypes, "CDLL", lambda name, mode: loaded.append((name, mode)))
    monkeypatch.loaded = loaded
    return monkeypatch


def test_openblas_is_loaded_with_global_symbols_and_nothing_else_is(linux, recwarn):
    blas.preload()
    blas.notice()
    assert linux.loaded == [("libopenblas.so", ctypes.RTLD_GLOBAL)] and not recwarn


def test_the_next_library_is_tried_when_one_cannot_be_loaded(linux, recwarn):
    def load(name, mode):
        linux.loaded.append(name)
        if "mkl" not in name:
            raise OSError

    linux.setattr(blas.ctypes, "CDLL", load)
    blas.preload()
    blas.notice()
    assert linux.loaded == ["libopenblas.so", "libmkl_rt.so"] and not recwarn


@pytest.mark.parametrize(
    ("chosen", "tried", "words"),
    [
        ("none", [], "asks for no BLAS"),
        ("NONE", [], "asks for no BLAS"),
        ("libmine.so", ["libmine.so"], "names 'libmine.so', which cannot be loaded"),
    ],
)
def test_the_environment_decides(linux, chosen, tried, words):
    def load(name, mode):
        linux.loaded.append(name)
        raise OSError

    linux.setattr(blas.ctypes, "CDLL", load)
    linux.setenv("MLXTRACE_BLAS", chosen)
    blas.preload()
    assert linux.loaded == tried
    with pytest.warns(UserWarning, match=words):
        blas.notice()


def test_on_other_systems_and_on_a_gpu_nothing_is_said(linux, recwarn):
    linux.setattr(blas.sys, "platform", "darwin")
    blas.preload()
    blas.notice()
    assert not linux.loaded
    linux.setattr(blas.sys, "platform", "linux")
    linux.setenv("MLXTRACE_BLAS", "none")
    blas.preload()
    linux.setattr(blas, "_on_cpu", lambda: False)
    blas.notice()
    assert not recwarn


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="MLX has its own fast BLAS there")
def test_mlx_that_was_imported_first_is_said_when_a_model_is_loaded():
    code = "import mlx.core; import mlxtrace; print('imported'); mlxtrace.InterpretableModel('demo')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0 and "mlx was imported before mlxtrace" in run.stderr
