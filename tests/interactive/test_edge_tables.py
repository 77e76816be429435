"""Edges and paths to look around in: the scores, names and what is left out."""

import numpy as np
import pytest
from edges_made_up import made_up
from test_path_maps import large
from test_path_result import RAW, at_positions, made

pytest.importorskip("plotly")


def caption(figure):
    return figure.layout.title.subtitle.text.replace("<br>   ", " ")


def test_scores_are_a_map_and_no_edge_is_grey():
    edges = made_up(pairs=3)
    figure = edges.explore()
    heatmap = figure.data[0]
    np.testing.assert_allclose(heatmap.z, np.where(edges.upstream, edges.scores, np.nan), rtol=1e-5)
    texts = np.array([f"± {half:.4g} (95 %)" for half in edges.interval[edges.upstream]])
    shown = np.asarray(heatmap.customdata)[edges.upstream]
    assert (
        (shown == texts).all()
        if shown.dtype == object
        else np.allclose(shown, edges.interval[edges.upstream])
    )
    assert list(heatmap.y) == edges.senders and list(heatmap.x) == edges.receivers
    assert figure.layout.plot_bgcolor == "#dedede" and heatmap.hoverongaps is False
    assert "(95 %)" in heatmap.hovertemplate and "change of logit_diff" in heatmap.hovertemplate
    up, down = (dict(figure.layout.coloraxis.colorscale)[end] for end in (1.0, 0.0))
    assert int(up[5:7], 16) > int(up[1:3], 16) and int(down[1:3], 16) > int(
        down[5:7], 16
    )  # blue above, red below


def test_the_strongest_are_shown_and_the_rest_is_said():
    edges = made_up({("embed", "m0"): 2.0, ("m0", "logits"): -1.0, ("m1", "logits"): 0.25})
    figure = edges.explore(most=2)
    assert list(figure.data[0].y) == ["embed", "m0"] and list(figure.data[0].x) == ["m0", "logits"]
    n, m = edges.scores.shape
    assert f"not shown: {n - 2} senders and {m - 2} receivers, whose effects are at most 0.25" in caption(
        figure
    )


def test_paths_between_senders_and_receivers():
    result = made()
    figure = result.explore()
    np.testing.assert_allclose(figure.data[0].z, np.where(result.edge, RAW - 0.1, np.nan), rtol=1e-6)
    assert "change of prob: patched less the corrupted run" in caption(figure) and "grey: no edge" in caption(
        figure
    )
    assert "not shown" in caption(large().explore(most=10))


def test_paths_at_each_position():
    result = at_positions()
    figure = result.explore()
    np.testing.assert_allclose(figure.data[0].z, result.effect[result.edge], rtol=1e-6)
    assert list(figure.data[0].x) == ["0 The", "2 ·Tower*"] and figure.data[0].y[0] == "embed → m0"
    result.effect_interval = np.arange(result.effect.size).reshape(result.effect.shape) / 10
    halves = result.explore().data[0].customdata
    np.testing.assert_allclose(halves, result.effect_interval[result.edge], rtol=1e-6)
    few = result.explore(most=1)
    assert few.data[0].z.shape == (1, 2) and "not shown: 4 paths" in caption(few)


def test_the_first_metric_is_drawn():
    both = {"prob": 0.9, "logit": 5.0}, {"prob": 0.1, "logit": 1.0}
    result = made(
        raw=np.stack([RAW, RAW + 7]),
        metrics=["prob", "logit"],
        clean_values=both[0],
        corrupted_values=both[1],
    )
    np.testing.assert_allclose(
        result.explore().data[0].z, np.where(result.edge, RAW - 0.1, np.nan), rtol=1e-6
    )
