"""Where many heads look: every weight under its head, query and key, in each of the views."""

import numpy as np
import pytest

from mlxtrace import interactive
from mlxtrace.errors import InputError
from mlxtrace.interactive import crops

pytest.importorskip("plotly")
TOKENS = ["<bos>", " a", " a", "$b$"]


def patterns(heads=3, n=4):
    found = np.tril(np.random.default_rng(0).uniform(0.1, 1, (heads, n, n)))
    return found / found.sum(-1, keepdims=True)


def test_a_head_at_a_time():
    weights = patterns()
    figure = interactive.attention(weights, TOKENS, heads=["9.0", "9.6", "<b>"])
    assert [step.label for step in figure.layout.sliders[0].steps] == [
        "head 9.0",
        "head 9.6",
        "head &lt;b&gt;",
    ]
    for trace, values in zip(figure.data, weights, strict=True):
        np.testing.assert_allclose(trace.z, values, rtol=1e-6)
        assert list(trace.x) == list(trace.y) == ["0 &lt;bos&gt;", "1 ·a", "2 ·a", "3 &#36;b&#36;"]
    assert figure.data[0].hovertemplate.startswith(
        "from (query) <b>%{y}</b><br>to (key) <b>%{x}</b><br>attention"
    )
    assert figure.layout.coloraxis.cmin == 0


def test_all_heads_from_a_token():
    weights = patterns()
    figure = interactive.attention(weights, TOKENS, view="token", subject_range=range(1, 3))
    assert figure.layout.sliders[0].steps[1].label == "from 1 ·a*" and figure.layout.sliders[0].active == 3
    for query, trace in enumerate(figure.data):
        np.testing.assert_allclose(trace.z, weights[:, query], rtol=1e-6)
        assert list(trace.y) == ["head 0", "head 1", "head 2"]


def test_small_maps_of_all_heads():
    figure = interactive.attention(patterns(6), TOKENS, view="all")
    assert len(figure.data) == 6 and not figure.layout.sliders
    assert [note.text for note in figure.layout.annotations] == [f"head {h}" for h in range(6)]


def test_one_head_and_a_batch_of_one():
    weights = patterns(1)
    for given in (weights, weights[0], weights[None], weights[0].tolist()):
        (trace,) = interactive.attention(given, TOKENS).data
        np.testing.assert_allclose(trace.z, weights[0], rtol=1e-6)


def test_long_prompts_show_their_end_and_how_much_looks_elsewhere(monkeypatch):
    weights, tokens = patterns(2, 50), [f" w{i}" for i in range(50)]
    monkeypatch.setattr(crops, "CELLS", 2 * 10 * 10)
    figure = interactive.attention(weights, tokens)
    looked = [0, *range(41, 50)]
    np.testing.assert_allclose(figure.data[1].z, weights[1, 40:][:, looked], rtol=1e-6)
    assert figure.data[0].y[0] == "40 ·w40"
    outside = weights[:, 40:, 1:41].sum(-1)
    said = figure.layout.title.subtitle.text
    assert f"is {100 * outside.mean():.0f} % on average, {100 * outside.max():.0f} % at most" in said
    assert "queries: 10 of 50 tokens" in said and "keys: 10 of 50 tokens" in said
    assert interactive.attention(weights, tokens, rows=[-1]).data[0].z.shape == (1, 50)
    assert interactive.attention(weights, tokens, keys=[0, 3]).data[0].z.shape == (50, 2)
    assert interactive.attention(weights, tokens, view="token", rows=[7], keys=[0, 3]).data[0].z.shape == (
        2,
        2,
    )
    assert interactive.attention(weights, tokens, rows="all", keys="all").data[0].z.shape == (50, 50)
    some = interactive.attention(weights, tokens, rows=[3, -1], keys=[3, -1]).data[0]
    np.testing.assert_allclose(some.z, weights[0][[[3], [49]], [3, 49]], rtol=1e-6)


@pytest.mark.parametrize(
    "given",
    [
        {"tokens": TOKENS[:3]},
        {"tokens": "four"},
        {"tokens": None},
        {"tokens": patterns(), "patterns": TOKENS},  # as CircuitsVis orders them
        {"tokens": [1, 2, 3, 4]},
        {"heads": ["a"]},
        {"heads": ["a", "a", "b"]},
        {"view": "heads"},
        {"rows": [9]},
        {"keys": [-9]},
        {"keys": "most"},
        {"path": "x.png"},
        {"patterns": np.full((2, 4, 4), np.nan)},
        {"patterns": np.zeros((2, 3, 4, 4))},
        {"patterns": []},
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(given):
    with pytest.raises(InputError):
        interactive.attention(**{"patterns": patterns(), "tokens": TOKENS, **given})
