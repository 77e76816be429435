"""The BLAS that is loaded ahead of mlx, and the one line of advice where there is none."""

from __future__ import annotations

import sys
import warnings

import mlx.core as mx
import models
import pytest

from mlxtrace import InterpretableModel, blas, errors


@pytest.fixture
def fresh_blas(monkeypatch):
    monkeypatch.delenv("MLXTRACE_BLAS", raising=False)
    monkeypatch.setattr(blas, "_message", None)
    monkeypatch.setattr(blas.sys, "platform", "linux")
    monkeypatch.setattr(blas, "_on_cpu", lambda: True)
    modules = {k: v for k, v in sys.modules.items() if k != "mlx.core"}
    monkeypatch.setattr(blas.sys, "modules", modules)
    return monkeypatch


def told() -> list[str]:
    """What is warned of when a model is made."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        InterpretableModel(models.make("llama"))
        InterpretableModel(models.make("llama"))
    return [str(w.message) for w in caught]


def test_a_missing_blas_is_told_once_and_names_the_line(fresh_blas):
    fresh_blas.setattr(blas, "_candidates", lambda: ["libnothing.so.7"])
    blas.preload()
    with pytest.warns(UserWarning, match="openblas") as caught:
        InterpretableModel(models.make("llama"))
    assert len(caught) == 1 and caught[0].filename == __file__
    assert "\n" not in str(caught[0].message)
    assert told() == []


def test_a_model_that_cannot_be_loaded_gets_its_error_and_no_advice(fresh_blas, recwarn):
    fresh_blas.setattr(blas, "_candidates", lambda: [])
    blas.preload()
    with pytest.raises(errors.LoadError):
        InterpretableModel("no-such-folder")
    assert not recwarn.list and len(told()) == 1


def test_a_blas_that_is_there_says_nothing(fresh_blas):
    loaded = []
    fresh_blas.setattr(blas, "_candidates", lambda: ["first.so", "second.so"])
    fresh_blas.setattr(blas.ctypes, "CDLL", lambda name, mode: loaded.append((name, mode)))
    blas.preload()
    assert loaded == [("first.so", blas.ctypes.RTLD_GLOBAL)]
    assert told() == []


@pytest.mark.parametrize(("chosen", "tried"), [("none", []), ("NONE", []), ("/opt/x.so", ["/opt/x.so"])])
def test_the_environment_chooses_the_blas(fresh_blas, chosen, tried):
    asked = []

    def refuse(name, mode):
        asked.append(name)
        raise OSError

    fresh_blas.setenv("MLXTRACE_BLAS", chosen)
    fresh_blas.setattr(blas.ctypes, "CDLL", refuse)
    blas.preload()
    assert asked == tried
    (line,) = told()
    assert "MLXTRACE_BLAS" in line and (not tried or tried[0] in line)


def test_mlx_imported_earlier_is_told(fresh_blas):
    blas.sys.modules["mlx.core"] = mx
    blas.preload()
    assert "before mlxtrace" in told()[0]


def test_nothing_on_other_systems_or_accelerators(fresh_blas):
    fresh_blas.setattr(blas, "_candidates", lambda: [])
    fresh_blas.setattr(blas.sys, "platform", "darwin")
    blas.preload()
    assert blas._message is None
    fresh_blas.setattr(blas.sys, "platform", "linux")
    fresh_blas.setattr(blas, "_on_cpu", lambda: False)
    blas.preload()
    assert told() == []


def test_numpy_has_its_threads_back(monkeypatch):
    told = [3]
    monkeypatch.setattr(blas, "_threads_of_numpy", lambda: (lambda: told[-1], told.append))
    with pytest.raises(ZeroDivisionError), blas.numpy_in_one_thread():
        assert told == [3, 1]
        _ = 1 / 0
    assert told == [3, 1, 3]


def test_numpys_own_threads_are_found_where_it_has_a_blas():
    read, write = blas._threads_of_numpy()
    before = read()
    write(1)
    assert read() == 1
    write(before)
    assert read() == before
