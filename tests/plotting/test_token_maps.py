"""Maps with tokens in their cells: what is drawn, framed, named and left out."""

from types import SimpleNamespace

import numpy as np
import pytest
from drawn_figures import drawn, labels, panels

from mlxtrace.errors import InputError
from mlxtrace.plotting import glyphs, token_maps


@pytest.fixture(autouse=True)
def every_glyph(monkeypatch):
    """Whatever fonts are installed."""
    monkeypatch.setattr(glyphs, "lacks", lambda c, fonts: False)


def lens(layers=3, positions=4, token=" Paris"):
    random = np.random.default_rng(0)
    probabilities = random.uniform(0.1, 0.9, (layers, positions, 2))
    rank = np.ones((layers, positions), int)
    rank[-1, -1] = 0
    return SimpleNamespace(
        probabilities=probabilities,
        prob=random.uniform(0, 0.1, (layers, positions)),
        rank=rank,
        layers=list(range(layers)),
        positions=list(range(positions)),
        answer=" Paris",
        final=0.5,
        tokens=["The", " $x$", "巴黎", "\x1b\n"] * -(-positions // 4),
        component="mlp",
        prompt="p",
        model="m",
        first=[[token] * positions for _ in range(layers)],
    )


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_layers_go_up_and_each_cell_has_its_token(tmp_path):
    result = lens()
    (ax,) = panels(token_maps.lens(result, tmp_path / "lens.png"))
    np.testing.assert_array_equal(drawn(ax), result.probabilities[..., 0])
    assert (
        labels(ax.yaxis) == ["0", "1", "2"] and not ax.yaxis_inverted() and (tmp_path / "lens.png").exists()
    )
    assert labels(ax.xaxis) == ["The", "·\\$x\\$", "巴黎", "\\x1b↵"] and texts(ax) == ["·Paris"] * 12
    assert len(ax.patches) == 1 and ax.patches[0].get_xy() == (3.03, 2.05)
    (ax,) = panels(token_maps.lens(result, of="answer"))
    np.testing.assert_array_equal(drawn(ax), result.prob)
    with pytest.raises(InputError, match="of='both'"):
        token_maps.lens(result, of="both")


def test_tokens_are_cut_to_their_cells_and_left_out_where_there_is_no_room():
    (ax,) = panels(token_maps.lens(lens(token=" straightforward")))
    assert texts(ax)[0] == "·straig…"
    (ax,) = panels(token_maps.lens(lens(token="巴黎是法国的首都")))
    assert texts(ax)[0] == "巴黎是…"
    figure = token_maps.lens(lens(positions=500))
    (ax,) = panels(figure)
    assert not ax.texts and not ax.patches and len(labels(ax.xaxis)) < 80 and figure.get_figwidth() < 12


def test_a_map_of_layers_by_layers():
    random = np.random.default_rng(0)
    result = SimpleNamespace(
        prob=random.uniform(size=(2, 3)),
        rank=np.array([[1, 0, 2], [1, 1, 1]]),
        layers=[4, 5, 6],
        target_layers=[0, 7],
        answer=" Paris France",
        answer_ids=[1, 2],
        base_prob=0.01,
        component="resid_post",
        model="m",
        first=[["a", "b", "c"], ["d", "e", "f"]],
        where=["source: s", "target: t"],
    )
    figure = token_maps.scope(result)
    (ax,) = panels(figure)
    np.testing.assert_array_equal(drawn(ax), result.prob)
    assert (
        labels(ax.xaxis) == ["4", "5", "6"] and labels(ax.yaxis) == ["0", "7"] and texts(ax) == list("abcdef")
    )
    assert (ax.get_xlabel(), ax.get_ylabel(), len(ax.patches)) == ("source layer", "target layer", 1)
    said = " ".join(figure.get_supxlabel().split())
    assert 'each token of " Paris France" is the likeliest' in said.replace("\xa0", " ")


def test_bars_of_one():
    result = SimpleNamespace(
        text="x", generated=[1], model="m", top=[(" Paris", 0.9), ("$", 0.1)], base_top=[(" Rome", 0.6), ("a", 0.1)],
        lines=["a line"],
    )  # fmt: skip
    first, second = panels(token_maps.said(result))
    assert [bar.get_width() for bar in first.patches] == [0.9, 0.1] and labels(second.yaxis) == ["·Rome", "a"]
