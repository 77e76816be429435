"""Causal effects' numbers, table, words and file, made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mlxtrace.errors import LoadError
from mlxtrace.results.answer import Answer
from mlxtrace.results.causal_effects_result import CausalEffects


def effects(positions=None, **changes):
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
    found = effects()
    assert found.change == pytest.approx(0.8) and found.total == pytest.approx(0.7 - 0.9)
    assert effects(metric="logit").total == pytest.approx(0.8)
    np.testing.assert_allclose(found.direct_change, [0, 0.5], atol=1e-12)


def test_rows_by_layer_and_by_position():
    assert effects().to_rows()[1] == {"component": "mlp", "layer": 5, "direct": 0.6, "indirect": 0.4}
    row = effects([0, 2]).to_rows()[1]
    assert (row["layer"], row["position"], row["token"]) == (3, 2, " in")
    assert effects().top(1)[0]["layer"] == 5 and len(effects([0, 2]).top(3)) == 3


def test_words():
    text = repr(effects(notes=["a note"]))
    assert "CausalEffects of the MLP output (whole sequence), metric prob" in text and "note: a note" in text
    assert 'base:   Paris is in → " France" 0.70' in text and 'source: Rio is in → " Brazil" 0.90' in text
    assert "each token, 3 layers at a time" in repr(effects([0, 2], window=3))


@pytest.mark.parametrize(
    "changes", [{"layers": [3]}, {"source_value": float("inf")}, {"direct": np.zeros((2, 3))}]
)
def test_files_that_do_not_fit_their_labels_are_refused(changes, tmp_path):
    back = CausalEffects.load(effects([0, 2]).save(tmp_path / "good"))
    assert back.positions == [0, 2] and back.source_answer == effects().source_answer
    with pytest.raises(LoadError, match="not a complete CausalEffects"):
        CausalEffects.load(effects(**changes).save(tmp_path / "bad.npz"))
