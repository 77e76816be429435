"""CausalEffects: what it prints, draws, saves and loads, and files that are not whole."""

import dataclasses

import models
import numpy as np
import pytest

import mlxtrace
from mlxtrace import CausalEffects
from mlxtrace.errors import LoadError

BASE = [7, 31, 32, 90, 15, 120]
SOURCE = [7, 55, 61, 90, 15, 120]


@pytest.fixture(scope="module")
def model():
    return mlxtrace.InterpretableModel(models.make("gpt2", seed=2))


def test_results_print_plot_save_and_load(model, tmp_path):
    for positions in (None, "each"):
        effects = model.causal_effects(BASE, SOURCE, "mlp", positions=positions, progress=False)
        assert "base" in repr(effects) and len(effects.to_rows()) == effects.direct.size
        effects.plot(tmp_path / f"{positions}.png")
        loaded = CausalEffects.load(effects.save(tmp_path / f"{positions}.npz"))
        np.testing.assert_array_equal(loaded.direct, effects.direct)
        np.testing.assert_array_equal(loaded.indirect, effects.indirect)
        assert loaded.total == effects.total and repr(loaded) == repr(effects)
        assert loaded.top(1) == effects.top(1)
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(effects.direct, effects.indirect)


def test_total_is_of_each_runs_own_answer_for_prob_only(model):
    effects = model.causal_effects(BASE, SOURCE, "mlp", progress=False)
    assert effects.total == effects.base_answer.corrupted_prob - effects.source_answer.clean_prob
    other = dataclasses.replace(effects, metric="logit")
    assert other.total == other.change == other.source_value - other.base_value
    assert "total:" in repr(effects) and "total:" not in repr(other)
    np.testing.assert_array_equal(effects.direct_change, effects.direct - effects.base_value)


def test_rows_and_the_strongest_of_them(model):
    effects = model.causal_effects(BASE, SOURCE, "mlp", positions="each", progress=False)
    rows, best = effects.to_rows(), effects.top(3)
    assert [r["direct"] for r in best] == sorted((r["direct"] for r in rows), reverse=True)[:3]
    i = effects.layers.index(best[0]["layer"]), effects.positions.index(best[0]["position"])
    assert effects.direct[i] == best[0]["direct"] and effects.top(0) == []


def test_a_file_that_does_not_fit_its_labels_is_refused(model, tmp_path):
    effects = model.causal_effects(BASE, SOURCE, "mlp", progress=False)
    short = dataclasses.replace(effects, layers=effects.layers[1:])
    none = dataclasses.replace(effects, base_value=float("nan"))
    for bad in (short, none):
        with pytest.raises(LoadError, match="CausalEffects"):
            CausalEffects.load(bad.save(tmp_path / "bad.npz"))
