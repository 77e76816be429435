"""CausalTrace: what it prints, draws, saves and loads, and files that are not whole."""

import dataclasses

import models
import numpy as np
import pytest

import mlxtrace
from mlxtrace import CausalTrace, plotting
from mlxtrace.errors import LoadError

IDS = [7, 31, 32, 90, 15, 120, 8]


@pytest.fixture(scope="module")
def trace():
    model = mlxtrace.InterpretableModel(models.make("gpt2", seed=4))
    return model.causal_trace(IDS, range(1, 3), noise=0.7, samples=2, kind="mlp", window=3, progress=False)


def test_result_prints_plots_saves_and_loads(trace, tmp_path):
    assert "clean" in repr(trace) and "strongest" in repr(trace)
    rows = trace.to_rows()
    assert len(rows) == trace.scores.size and rows[5]["score"] == trace.scores.ravel()[5]
    assert [r["subject"] for r in rows[:: trace.scores.shape[1]]] == [i in (1, 2) for i in range(len(IDS))]
    assert trace.top(1)[0]["score"] == trace.scores.max()
    figure = trace.plot(tmp_path / "trace.png")
    assert figure.get_suptitle().replace("\n", " ") == "Impact of restoring MLP after corrupted input"
    side = plotting.rome_heatmap({None: trace.scores, "mlp": trace.scores}, trace.tokens, low=trace.low_score)
    assert (
        side.get_suptitle().replace("\n", " ")
        == "Impact of restoring layer output or MLP after corrupted input"
    )
    loaded = CausalTrace.load(trace.save(tmp_path / "trace"))
    np.testing.assert_array_equal(loaded.raw, trace.raw)
    for name in ("low_score", "subject_range", "answer", "tokens", "kind", "window", "settings", "notes"):
        assert getattr(loaded, name) == getattr(trace, name)
    assert repr(loaded) == repr(trace)
    with pytest.raises(LoadError, match="not a CausalTrace"):
        mlxtrace.storage.save_arrays(tmp_path / "other.npz", "Other", {}, {})
        CausalTrace.load(tmp_path / "other.npz")


def test_effects_are_differences_of_the_scores(trace):
    np.testing.assert_array_equal(trace.indirect_effect, trace.raw.mean(-1) - trace.low_score)
    assert trace.total_effect == trace.high_score - trace.low_score
    np.testing.assert_allclose(trace.recovery, 100 * trace.indirect_effect / trace.total_effect)


def test_titles_and_pages_say_what_was_restored_and_severed(trace):
    whole = dataclasses.replace(trace, kind=None, window=1, severed="attn")
    assert "a layer's output" in repr(whole) and "attention of that token severed" in repr(whole)
    assert "3 layers' MLP outputs" in repr(trace) and "severed" not in repr(trace)
    title = whole.plot().get_suptitle().replace("\n", " ")
    assert title == "Impact of restoring layer output after corrupted input, attention severed"


@pytest.mark.parametrize(
    "change",
    [{"positions": [0, 1]}, {"ids": IDS[1:]}, {"kind": "head"}, {"low_score": float("inf")}],
    ids=str,
)
def test_a_file_that_does_not_fit_its_labels_is_refused(trace, tmp_path, change):
    with pytest.raises(LoadError, match="CausalTrace"):
        CausalTrace.load(dataclasses.replace(trace, **change).save(tmp_path / "bad.npz"))
