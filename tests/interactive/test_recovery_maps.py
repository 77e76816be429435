"""Recoveries to look around in: the numbers, names and intervals of hovering are the result's."""

import numpy as np
import pytest
from drawn_figures import maps
from opened_pages import opened
from test_html import HOSTILE
from test_patching_result import layers, make

from mlxtrace.errors import InputError

pytest.importorskip("plotly")


def test_bars_say_each_number():
    result = layers()
    (bars,) = result.explore().data
    np.testing.assert_allclose(np.add(bars.y, bars.base), result.recovery)
    assert bars.hovertext[1] == f"layer <b>1</b><br>recovery of probability <b>{result.recovery[1]:.1f} %</b>"


def test_bars_of_noising_start_at_100():
    result = make([0.1, 0.5, 0.9, 0.95], direction="noise")
    (bars,) = result.explore().data
    assert bars.base == 100 and f"{result.recovery[0]:.1f} %" in bars.hovertext[0]


def test_maps_of_components_share_rows_and_scale():
    result = maps(components=2)
    figure = result.explore()
    for trace, values, axis in zip(figure.data, result.recovery, ("coloraxis", "coloraxis2"), strict=True):
        np.testing.assert_allclose(trace.z, values.T, rtol=1e-6)
        assert trace.z.dtype == np.float32 and trace.coloraxis == axis
        assert list(trace.y) == ["0 The", "1 ·Eiffel → ·Colos*", "2 ·Tower → seum*", "3 ·in"]
    ends = {(figure.layout[axis].cmin, figure.layout[axis].cmax) for axis in ("coloraxis", "coloraxis2")}
    assert len(ends) == 1 and figure.layout.autosize and figure.layout.width is None
    assert "token <b>%{y}</b><br>layer <b>%{x}</b><br>recovery of probability <b>%{z:.1f} %</b>" in (
        figure.data[0].hovertemplate
    )


def test_heads_of_each_token_have_a_slider():
    raw = np.random.default_rng(0).uniform(0.1, 0.5, (3, 4, 5))
    raw[1, 2, 3] = 0.9
    result = make(raw, ("layer", "position", "head"), components=["head"])
    figure = result.explore()
    assert [trace.visible for trace in figure.data] == [False, False, False, True, False]
    (slider,) = figure.layout.sliders
    assert slider.active == 3 and [step.label for step in slider.steps] == [f"head {h}" for h in range(5)]
    shown = np.array([step.args[0]["visible"] for step in slider.steps])
    np.testing.assert_array_equal(shown, np.eye(5, dtype=bool))
    for head, trace in enumerate(figure.data):
        np.testing.assert_allclose(trace.z, result.recovery[..., head].T, rtol=1e-6)
        assert f"<extra>head {head}</extra>" in trace.hovertemplate
    few = result.explore(heads=[4, 0]).data
    assert few[0].hovertemplate.endswith("head 0</extra>") and len(few) == 2


def test_heads_without_positions_are_one_map():
    result = make(np.random.default_rng(0).uniform(0, 1, (3, 5)), ("layer", "head"))
    (trace,) = result.explore().data
    np.testing.assert_allclose(trace.z, result.recovery, rtol=1e-6)
    assert trace.hovertemplate.startswith("layer <b>%{y}</b><br>head <b>%{x}</b>")


def long(heads=None):
    tokens = [f" w{i}" for i in range(300)]
    raw = np.full((20, 300, *([heads] if heads else [])), 0.1)
    raw[5, 200] = 0.7
    dims = ("layer", "position", *(["head"] if heads else []))
    fields = {"tokens": tokens, "corrupted_tokens": tokens, "subject_range": range(200, 202)}
    return make(raw, dims, **fields)


def test_rows_that_say_nothing_are_cut_and_that_is_said():
    result = long()
    figure = result.explore()
    (trace,) = figure.data
    assert list(trace.y) == ["⋮ 0-199", "200 ·w200*", "201 ·w201*", "⋮ 202-298", "299 ·w299"]
    np.testing.assert_allclose(trace.z[[1, 2, 4]], result.recovery.T[[200, 201, 299]], rtol=1e-6)
    assert np.isnan(trace.z[[0, 3]]).all()
    assert "rows 0-199 are 0; rows 202-298 are 0" in figure.layout.title.subtitle.text
    assert result.explore(rows="all").data[0].z.shape == (300, 20)
    assert list(result.explore(rows=[200]).data[0].y) == ["⋮ 0-199", "200 ·w200*", "⋮ 201-299"]


def test_windows_of_layers_are_said():
    wide = maps(window=3).explore()
    assert wide.layout.xaxis.title.text == "centre of 3 layers"
    assert layers().explore().layout.xaxis.title.text == "layer"
    apart = maps(components=2, settings={"windows": {"mlp": 1, "attn": 5}}).explore()
    assert [apart.layout[axis].title.text for axis in ("xaxis", "xaxis2")] == [
        "single layer",
        "centre of 5 layers",
    ]


def test_what_a_figure_does_not_have_is_refused():
    for given in ({"rows": [2]}, {"heads": [0]}, {"metric": "logit"}, {"row": "all"}):
        with pytest.raises(InputError):
            layers().explore(**given)
    for given in ({"rows": [900]}, {"rows": "most"}, {"heads": [7]}, {"heads": "most"}, {"heads": []}):
        with pytest.raises(InputError):
            long(heads=2).explore(**given)
    with pytest.raises(InputError, match="explore\\(\\) of a PatchingResult takes metric=, rows=, heads="):
        layers().explore(metrics="prob")


def test_intervals_are_in_the_hover():
    result = maps()
    halves = np.full(result.recovery.shape, 3.0)
    type(result).ids, kept = property(lambda self: ["a", "b"]), type(result).ids
    type(result).interval, old = property(lambda self: halves), type(result).interval
    try:
        trace = result.explore().data[0]
        assert "± %{customdata:.1f} (95 %)" in trace.hovertemplate and (trace.customdata == 3).all()
        halves[0, 0] = np.nan
        trace = result.explore().data[0]
        assert trace.customdata[0, 0] == "no interval" and trace.customdata[1, 1] == "± 3.0 (95 %)"
    finally:
        type(result).ids, type(result).interval = kept, old


@pytest.mark.heavy
def test_a_step_of_the_slider_shows_its_head(tmp_path):
    result = make(np.random.default_rng(0).uniform(0.1, 0.9, (3, 4, 2)), ("layer", "position", "head"))
    result.explore(tmp_path / "x.html")
    seen = opened(tmp_path / "x.html", [{"step": h, "xval": 2, "yval": 1} for h in (0, 1)], tmp_path)
    for head, text in enumerate(seen.hovers):
        assert f"head {head}" in text and f"{result.recovery[2, 1, head]:.1f} %" in text
    assert not seen.errors and len(seen.hovers) == 2


@pytest.mark.heavy
def test_a_browser_shows_what_hovering_says(tmp_path):
    result = maps(clean_text=HOSTILE, tokens=["The", HOSTILE[:20], "<b>x", "$a$ %{z}"])
    result.explore(tmp_path / "x.html")
    seen = opened(tmp_path / "x.html", [{"xval": 1, "yval": 2}, {"xval": 0, "yval": 3}], tmp_path)
    assert not seen.errors and not seen.fetched and not seen.links and not seen.popped
    assert f"{result.recovery[1, 2]:.1f} %" in seen.hovers[0] and "<b>x" in seen.hovers[0]
    assert f"{result.recovery[0, 3]:.1f} %" in seen.hovers[1] and "$a$·%{z}" in seen.hovers[1]
    assert any("<b>bold</b>" in text for text in seen.texts)
