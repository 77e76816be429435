"""NoisingWindow: what it prints, draws, saves and loads, and files that are not whole."""

import dataclasses

import models
import numpy as np
import pytest

import mlxtrace
from mlxtrace.errors import LoadError
from mlxtrace.results.noising_window_result import NoisingWindow

BASE = [7, 31, 32, 90, 15, 120]


@pytest.fixture(scope="module")
def result():
    model = mlxtrace.InterpretableModel(models.make("llama", seed=2))
    return model.noising_window(BASE, level=0.4, samples=3)


def test_it_prints_draws_saves_and_loads(result, tmp_path):
    loaded = NoisingWindow.load(result.save(tmp_path / "noising"))
    np.testing.assert_array_equal(loaded.raw, result.raw)
    result.plot(tmp_path / "noising.pdf")
    assert (tmp_path / "noising.pdf").stat().st_size > 1000
    assert repr(loaded) == repr(result) and len(result.to_rows()) == len(result.layers)
    assert f"{result.scores[1]:.4f}" in repr(result) and "centre" in repr(result)
    assert [r["score"] for r in result.to_rows()] == result.scores.tolist()


def test_a_file_that_does_not_fit_its_labels_is_refused(result, tmp_path):
    for change in ({"layers": [0]}, {"clean": float("nan")}):
        with pytest.raises(LoadError, match="NoisingWindow"):
            NoisingWindow.load(dataclasses.replace(result, **change).save(tmp_path / "bad.npz"))
