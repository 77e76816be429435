"""A causal trace's numbers, table, words, figure and file, made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_figures import labels, panels

from mlxtrace.errors import EffectError, InputError, LoadError
from mlxtrace.results.answer import Answer
from mlxtrace.results.causal_trace_result import CausalTrace

RAW = np.array([[[0.1, 0.1], [0.1, 0.2]], [[0.5, 0.7], [0.3, 0.1]]])  # [positions, layers, samples]


def trace(**changes):
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
    found = trace()
    np.testing.assert_allclose(found.scores, [[0.1, 0.15], [0.6, 0.2]])
    np.testing.assert_allclose(found.indirect_effect, [[0, 0.05], [0.5, 0.1]], atol=1e-12)
    np.testing.assert_allclose(found.recovery, [[0, 6.25], [62.5, 12.5]], atol=1e-9)
    assert found.total_effect == pytest.approx(0.8)
    with pytest.raises(EffectError):
        _ = trace(high_score=0.1).recovery


def test_rows_are_the_positions_that_were_restored():
    rows = trace().to_rows()
    assert [(r["position"], r["token"], r["subject"], r["layer"]) for r in rows] == [
        (0, "The", False, 0),
        (0, "The", False, 1),
        (2, " Tower", True, 0),
        (2, " Tower", True, 1),
    ]
    best = trace().top(1)[0]
    assert (best["position"], best["layer"], best["score"]) == (2, 0, pytest.approx(0.6))
    with pytest.raises(InputError, match="k is a whole number"):
        trace().top(-1)


def test_words():
    text = repr(trace(notes=["a note"]))
    assert 'The Eiffel Tower in → " Paris"' in text and "note: a note" in text and "2 samples" in text
    (row,) = [line for line in text.splitlines() if " Tower*" in line and "position" not in line]
    assert row.endswith("▓·") or row.endswith("▓░")
    assert "severed" in repr(trace(severed="mlp")) and "3 layers' MLP outputs" in repr(
        trace(kind="mlp", window=3)
    )


def test_the_figure_has_its_rows_and_the_subject_marked(tmp_path):
    fig = trace(kind="mlp", window=3).plot(tmp_path / "x.png")
    (ax,) = panels(fig)
    assert labels(ax.yaxis) == ["The", "·Tower*"] and ax.get_xlabel() == "centre of 3 restored MLP layers"
    assert (tmp_path / "x.png").is_file()


@pytest.mark.parametrize(
    "changes",
    [{"positions": [0, 9]}, {"ids": [1]}, {"low_score": float("nan")}, {"kind": "head"}, {"positions": [0]}],
)
def test_files_that_do_not_fit_their_labels_are_refused(changes, tmp_path):
    assert CausalTrace.load(trace().save(tmp_path / "good")).tokens == trace().tokens
    with pytest.raises(LoadError, match="not a complete CausalTrace"):
        CausalTrace.load(trace(**changes).save(tmp_path / "bad.npz"))
