"""Causal traces to look around in: the numbers, names and scales are the result's."""

import numpy as np
import pytest
from compared_traces import compared
from compared_traces import trace as made
from test_fact_averages import average

from mlxtrace import interactive
from mlxtrace.errors import InputError
from mlxtrace.results.comparison_set import ComparisonSet

pytest.importorskip("plotly")
SCORES = np.random.default_rng(0).uniform(0.1, 0.9, (4, 5))


def caption(figure):
    return figure.layout.title.subtitle.text


def test_a_trace_has_tokens_down_and_starts_at_the_corrupted_run():
    result = made(SCORES)
    figure = result.explore()
    (heatmap,) = figure.data
    np.testing.assert_allclose(heatmap.z, SCORES, rtol=1e-6)
    assert list(heatmap.y) == ["0 ·t0", "1 ·t1*", "2 ·t2*", "3 ·t3"] and list(heatmap.x) == list("01234")
    assert figure.layout.coloraxis.cmin == 0.1 and figure.layout.coloraxis.cmax == SCORES.max()
    assert "p(Paris) <b>%{z:.4f}</b>" in heatmap.hovertemplate
    assert "clean 0.90, corrupted 0.10" in caption(figure) and "a prompt" in caption(figure)
    assert figure.layout.xaxis.title.text == "single restored layer"


def test_windows_and_severed_parts_are_said():
    result = made(SCORES)
    result.kind, result.window, result.severed = "mlp", 3, "attn"
    figure = result.explore()
    assert figure.layout.xaxis.title.text == "centre of 3 restored MLP layers"
    assert "after corrupted input, attention severed" in figure.layout.title.text


def test_rows_of_a_long_trace_are_cut():
    scores = np.full((200, 3), 0.1)
    scores[150, 1] = 0.8
    result = made(scores, subject=range(150, 151))
    assert list(result.explore().data[0].y) == ["⋮ 0-149", "150 ·t150*", "⋮ 151-198", "199 ·t199"]
    assert "rows 0-149 are 0.1" in caption(result.explore())
    assert len(result.explore(rows=range(140, 160)).data[0].y) == 22
    with pytest.raises(InputError):
        result.explore(rows=[999])


def test_two_models_stand_side_by_side_with_their_difference():
    result = compared(SCORES, SCORES / 2)
    figure = result.explore()
    for heatmap, values in zip(figure.data, (SCORES, SCORES / 2, -SCORES / 2), strict=True):
        np.testing.assert_allclose(heatmap.z, values, rtol=1e-6)
    axes = [heatmap.coloraxis for heatmap in figure.data]
    assert axes == ["coloraxis", "coloraxis", "coloraxis2"]
    own = figure.layout.coloraxis2
    assert (
        own.cmax == -own.cmin == pytest.approx(SCORES.max() / 2) and own.colorbar.title.text == "difference"
    )
    assert "difference <b>%{z" in figure.data[2].hovertemplate and "p(Paris)" in figure.data[1].hovertemplate
    assert figure.layout.coloraxis.colorbar.title.text == "p(Paris)"


def test_many_prompts_on_two_models():
    rng = np.random.default_rng(3)
    result = ComparisonSet([compared(*rng.random((2, n, 4))) for n in (6, 8, 4)], ["a", "b", "c"])
    figure = result.explore()
    heatmaps = [trace for trace in figure.data if trace.type == "heatmap"]
    for heatmap, values in zip(heatmaps, (result.first, result.second, result.difference), strict=True):
        np.testing.assert_allclose(heatmap.z, values, rtol=1e-5)
    assert "customdata" in heatmaps[2].hovertemplate and "mean over 3 prompts" in caption(figure)


def test_averages_leave_out_roles_without_a_token():
    result = average()
    figure = interactive.averages(result)
    heatmaps = [trace for trace in figure.data if trace.type == "heatmap"]
    there = [0, 2, 3, 4, 5]
    for heatmap, values, halves in zip(heatmaps, result.indirect_effect, result.interval, strict=True):
        np.testing.assert_allclose(heatmap.z, values[there], rtol=1e-6)
        np.testing.assert_allclose(heatmap.customdata, halves[there], rtol=1e-6)
        assert list(heatmap.y) == [result.roles[i] for i in there]
    assert figure.layout.coloraxis.cmin == 0 and "average total effect 0.500 ± 0.100" in caption(figure)
