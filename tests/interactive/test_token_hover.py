"""Lenses and patchscopes to look around in: the likeliest tokens with their probabilities, and frames."""

from types import SimpleNamespace

import numpy as np
import pytest
from test_token_maps import lens as made

from mlxtrace import interactive
from mlxtrace.errors import InputError
from mlxtrace.interactive import token_hover

pytest.importorskip("plotly")


def lens(layers=3, positions=4, token=" Paris", **more):
    result = made(layers, positions, token)
    vars(result).update(more)
    result.top = [[[(" Paris", p), ("<b>", q)] for p, q in row] for row in result.probabilities.tolist()]
    return result


def test_hovering_gives_the_likeliest_tokens():
    result = lens()
    figure = interactive.lens(result)
    (heatmap,) = figure.data
    np.testing.assert_allclose(heatmap.z, result.probabilities[..., 0], rtol=1e-6)
    p, q = result.probabilities[1, 2]
    assert list(heatmap.customdata[1, 2]) == [
        f"·Paris {p:.2f}", f"&lt;b&gt; {q:.2f}", f"p(Paris) {token_hover.probability(result.prob[1, 2])}, rank 1"
    ]  # fmt: skip
    assert "%{customdata[2]}" in heatmap.hovertemplate and "customdata[3]" not in heatmap.hovertemplate
    assert (
        list(heatmap.y) == ["0", "1", "2"] and figure.layout.yaxis.autorange is None
    )  # the last layer on top
    assert heatmap.text[0][0] == "·Paris" and list(heatmap.x)[:2] == ["0 The", "1 ·&#36;x&#36;"]
    np.testing.assert_allclose(interactive.lens(result, of="answer").data[0].z, result.prob, rtol=1e-6)
    with pytest.raises(InputError, match="of='both'"):
        interactive.lens(result, of="both")


def test_each_cell_has_its_own_token():
    result = lens()
    result.top = [[[(f"{i}{j}", 0.5), ("x", 0.1)] for j in range(4)] for i in range(3)]
    (heatmap,) = interactive.lens(result, rows=[1, 3]).data
    assert [list(row) for row in heatmap.text] == [["01", "03"], ["11", "13"], ["21", "23"]]
    assert heatmap.customdata[2, 1][0] == "23 0.50"


def test_cells_that_say_the_answer_are_framed():
    result = lens()
    result.rank[1, 1:3] = 0
    shapes = interactive.lens(result).layout.shapes
    assert [(round(s.x0, 2), round(s.x1, 2), round(s.y0 + 0.44)) for s in shapes] == [
        (0.53, 2.47, 1),
        (2.53, 3.47, 2),
    ]
    result.rank[:] = 1
    assert not interactive.lens(result).layout.shapes


def test_long_prompts_show_their_end_and_say_so(monkeypatch):
    result = lens(layers=4, positions=100)
    monkeypatch.setattr(token_hover, "TEXTS", 4 * 3 * 20)
    figure = interactive.lens(result)
    np.testing.assert_allclose(figure.data[0].z, result.probabilities[:, 80:, 0], rtol=1e-6)
    assert figure.data[0].customdata[2, 0][0] == f"·Paris {result.probabilities[2, 80, 0]:.2f}"
    assert not figure.layout.shapes[0].x0 > 20  # frames stand where their columns do now
    assert figure.data[0].x[0].startswith("80 ") and "80 of 100 positions are not shown" in (
        figure.layout.title.subtitle.text
    )
    assert interactive.lens(result, rows="all").data[0].z.shape == (4, 100)
    assert list(interactive.lens(result, rows=[2, -1]).data[0].x) == ["2 巴黎", "99 \\x1b↵"]
    for rows in ("some", [100], [], 0.5, [None]):
        with pytest.raises(InputError, match="rows="):
            interactive.lens(result, rows=rows)


def test_a_map_of_layers_by_layers():
    random = np.random.default_rng(0)
    result = SimpleNamespace(
        prob=random.uniform(size=(2, 3)), probabilities=random.uniform(size=(2, 3)),
        rank=np.array([[1, 0, 2], [1, 1, 1]]), layers=[4, 5, 6], target_layers=[0, 7], answer=" Paris France",
        answer_ids=[1, 2], base_prob=0.01, component="resid_post", model="m", first=[["a", "b", "c"], ["d", "e", "f"]],
        where=["source: s", "target: t"],
    )  # fmt: skip
    figure = interactive.patchscope_map(result)
    (heatmap,) = figure.data
    np.testing.assert_allclose(heatmap.z, result.prob, rtol=1e-6)
    assert heatmap.customdata[0, 1][1] == f"likeliest b {result.probabilities[0, 1]:.2f}"
    assert (
        list(heatmap.x) == ["4", "5", "6"]
        and list(heatmap.y) == ["0", "7"]
        and len(figure.layout.shapes) == 1
    )
    assert "each token of " in figure.layout.title.subtitle.text


def test_bars_of_one():
    result = SimpleNamespace(
        text="x", generated=[1], model="m", top=[(" Paris", 0.9), ("$", 0.1)], base_top=[(" Rome", 0.6), ("a", 0.1)],
        lines=["a line"],
    )  # fmt: skip
    patched, plain = interactive.patchscope(result).data
    assert list(patched.x) == [0.9, 0.1] and list(plain.y) == ["1  ·Rome", "2  a"]
    assert patched.hovertext[1] == "&#36; <b>0.1000</b>, patched"
