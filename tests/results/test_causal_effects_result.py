"""CausalEffects: what it prints, draws, saves and loads, and files that are not whole."""

import dataclasses

import models
import numpy as np
import pytest

import mlxtrace
from mlxtrace import CausalEffects
from mlxtrace.errors import LoadError
from mlxtrace.results.saved import Answer

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


def made(positions=None, **changes):
    shape = (2,) if positions is None else (2, len(positions))
    told = dict(
        direct=np.linspace(0.1, 0.6, np.prod(shape)).reshape(shape),
        indirect=np.linspace(0, 0.4, np.prod(shape)).reshape(shape),
        base_value=0.1,
        source_value=0.9,
        base_answer=Answer(1, " France", 0.05, 0.7),
        source_answer=Answer(2, " Brazil", 0.9, 0.1),
        component="mlp",
        layers=[3, 5],
        positions=positions,
        window=1,
        metric="prob",
        tokens=["Rio", " is", " in"],
        base_tokens=["Paris", " is", " in"],
        subject_range=range(0, 1),
        base_text="Paris is in",
        source_text="Rio is in",
        model="demo",
    )
    return CausalEffects(**(told | changes))


def test_totals():
    found = made()
    assert found.change == pytest.approx(0.8) and found.total == pytest.approx(0.7 - 0.9)
    assert made(metric="logit").total == pytest.approx(0.8)
    np.testing.assert_allclose(found.direct_change, [0, 0.5], atol=1e-12)


def test_rows_by_layer_and_by_position():
    row = made().to_rows()[1]
    natural = row.pop("natural_indirect"), row.pop("natural_direct")
    assert row == {"component": "mlp", "layer": 5, "direct": 0.6, "indirect": 0.4}
    assert natural == pytest.approx((0.6 - 0.1, 0.9 - 0.4 - 0.1))
    row = made([0, 2]).to_rows()[1]
    assert (row["layer"], row["position"], row["token"]) == (3, 2, " in")
    assert made().top(1)[0]["layer"] == 5 and len(made([0, 2]).top(3)) == 3


@pytest.mark.parametrize("positions", [None, [0, 2]])
def test_the_literatures_effects_by_their_formulas(positions):
    """Pearl 2001; Vig et al. 2020, section 3: differences from the base run of runs that are made of both."""
    found = made(positions)
    base, source = found.base_value, found.source_value
    base_with_source, source_with_base = found.direct, source - found.indirect
    np.testing.assert_allclose(found.natural_indirect, base_with_source - base, atol=1e-12)
    np.testing.assert_allclose(found.natural_direct, source_with_base - base, atol=1e-12)
    way_back = source_with_base - source  # the natural indirect effect from the source to the base
    np.testing.assert_allclose(found.natural_direct - way_back, found.change, atol=1e-12)
    assert not np.allclose(found.natural_indirect, found.indirect)  # or neither name would need the other
    text = repr(found)
    assert "natural indirect effect (Pearl 2001; Vig et al. 2020): direct - base run" in text


def test_what_was_patched_together_is_said():
    assert "(whole sequence)" in repr(made())
    assert "(last token)" in repr(made(settings={"positions": "last"}))
    assert "(position 1, 2)" in repr(made(settings={"positions": [1, 2]}))


def test_words():
    text = repr(made(notes=["a note"]))
    assert "CausalEffects of the MLP output (whole sequence), metric prob" in text and "note: a note" in text
    assert 'base:   Paris is in → " France" 0.70' in text and 'source: Rio is in → " Brazil" 0.90' in text
    assert "each token, 3 layers at a time" in repr(made([0, 2], window=3))


@pytest.mark.parametrize(
    "changes", [{"layers": [3]}, {"source_value": float("inf")}, {"direct": np.zeros((2, 3))}]
)
def test_files_that_do_not_fit_their_labels_are_refused(changes, tmp_path):
    back = CausalEffects.load(made([0, 2]).save(tmp_path / "good"))
    assert back.positions == [0, 2] and back.source_answer == made().source_answer
    with pytest.raises(LoadError, match="not a complete CausalEffects"):
        CausalEffects.load(made(**changes).save(tmp_path / "bad.npz"))
