"""CausalTrace: what it prints, draws, saves and loads, and files that are not whole."""

import dataclasses

import models
import numpy as np
import pytest
from drawn_figures import labels, panels

import mlxtrace
from mlxtrace import CausalTrace, plotting
from mlxtrace.errors import EffectError, InputError, LoadError
from mlxtrace.results.saved import Answer

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


RAW = np.array([[[0.1, 0.1], [0.1, 0.2]], [[0.5, 0.7], [0.3, 0.1]]])  # [positions, layers, samples]


def made(**changes):
    told = dict(
        raw=RAW,
        low_score=0.1,
        high_score=0.9,
        answer=Answer(5, " Paris", 0.9, 0.1),
        subject_range=range(1, 3),
        positions=[0, 2],
        tokens=["The", " Eiffel", " Tower", " in"],
        ids=[1, 2, 3, 4],
        noise_level=0.1,
        kind=None,
        window=1,
        severed=None,
        prompt="The Eiffel Tower in",
        model="demo",
    )
    return CausalTrace(**(told | changes))


def test_numbers():
    found = made()
    np.testing.assert_allclose(found.scores, [[0.1, 0.15], [0.6, 0.2]])
    np.testing.assert_allclose(found.indirect_effect, [[0, 0.05], [0.5, 0.1]], atol=1e-12)
    np.testing.assert_allclose(found.recovery, [[0, 6.25], [62.5, 12.5]], atol=1e-9)
    assert found.total_effect == pytest.approx(0.8)
    with pytest.raises(EffectError):
        _ = made(high_score=0.1).recovery


def test_rows_are_the_positions_that_were_restored():
    rows = made().to_rows()
    assert [(r["position"], r["token"], r["subject"], r["layer"]) for r in rows] == [
        (0, "The", False, 0),
        (0, "The", False, 1),
        (2, " Tower", True, 0),
        (2, " Tower", True, 1),
    ]
    best = made().top(1)[0]
    assert (best["position"], best["layer"], best["score"]) == (2, 0, pytest.approx(0.6))
    with pytest.raises(InputError, match="k is a whole number"):
        made().top(-1)


def test_words():
    text = repr(made(notes=["a note"]))
    assert 'The Eiffel Tower in → " Paris"' in text and "note: a note" in text and "2 samples" in text
    (row,) = [line for line in text.splitlines() if " Tower*" in line and "position" not in line]
    assert row.endswith("▓·") or row.endswith("▓░")
    assert "severed" in repr(made(severed="mlp")) and "3 layers' MLP outputs" in repr(
        made(kind="mlp", window=3)
    )


def test_the_figure_has_its_rows_and_the_subject_marked(tmp_path):
    fig = made(kind="mlp", window=3).plot(tmp_path / "x.png")
    (ax,) = panels(fig)
    assert labels(ax.yaxis) == ["The", "·Tower*"] and ax.get_xlabel().startswith("layer amid all 2 restored")
    assert (tmp_path / "x.png").is_file()


def test_only_the_subjects_rows_are_marked_in_whatever_order_they_are():
    raw = np.linspace(0.1, 0.9, 12).reshape(3, 2, 2)
    (ax,) = panels(made(positions=[2, 0, 1], raw=raw).plot())
    assert labels(ax.yaxis) == ["·Tower*", "The", "·Eiffel*"]


@pytest.mark.parametrize(
    "changes",
    [{"positions": [0, 9]}, {"ids": [1]}, {"low_score": float("nan")}, {"kind": "head"}, {"positions": [0]}],
)
def test_files_that_do_not_fit_their_labels_are_refused(changes, tmp_path):
    assert CausalTrace.load(made().save(tmp_path / "good")).tokens == made().tokens
    with pytest.raises(LoadError, match="not a complete CausalTrace"):
        CausalTrace.load(made(**changes).save(tmp_path / "bad.npz"))
