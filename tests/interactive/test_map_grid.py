"""Maps with hover: colours as in the printed figures, uncertain cells marked, sliders that show one map at a time."""

import matplotlib
import numpy as np
import pytest

from mlxtrace.interactive.map_grid import Hover, colour_scale, facets, slides
from mlxtrace.plotting.heatmaps import Map, Scale

pytest.importorskip("plotly")
SCALE, HOVER = Scale(-50.0, 100.0, 0.0), Hover("token", "layer", "recovery", ".1f", " %")


def some(n, **more):
    values = np.random.default_rng(0).uniform(-40, 90, (n, 3, 4))
    return [Map(v, ["a", "b", "c"], list("0123"), "mlp", f"map {i}", **more) for i, v in enumerate(values)]


def test_colours_are_those_of_the_printed_figures():
    steps = colour_scale(SCALE, "attn")
    colours = SCALE.colours("attn")
    for at, colour in steps:
        assert colour == matplotlib.colors.to_hex(colours(at))
    assert steps[0][0] == 0 and steps[-1][0] == 1
    assert min(steps, key=lambda step: abs(step[0] - 1 / 3))[1] == matplotlib.colors.to_hex(colours(1 / 3))


@pytest.mark.parametrize(("n", "down"), [(1, 1), (4, 1), (5, 2), (12, 3)])
def test_maps_stand_in_a_grid(n, down):
    figure = facets(some(n), SCALE, HOVER, "t", [])
    assert len(figure.data) == n and figure.layout.height <= 1400
    tops = {figure.layout[f"yaxis{i or ''}"].domain for i in [0, *range(2, n + 1)] if i != 1}
    assert len(tops) == down and figure.layout.yaxis.autorange == "reversed"


def test_every_map_has_its_own_axes_and_all_show_the_first_row_on_top():
    figure = facets(some(5), SCALE, HOVER, "t", [])
    for trace in figure.data:
        name = "yaxis" + (trace.yaxis or "y")[1:]
        assert figure.layout[name].autorange == "reversed" and list(trace.y) == ["a", "b", "c"]
    assert facets(some(1), SCALE, HOVER, "t", [], upwards=True).layout.yaxis.autorange is None


def test_uncertain_colours_are_marked():
    maps = some(1, halves=np.array([[1e3, 0.1, 1e3, 0.1]] * 3))
    maps[0].values[:] = 50
    figure = facets(maps, SCALE, HOVER, "t", [])
    heatmap, marks = figure.data
    assert list(zip(marks.x, marks.y, strict=True)) == [(x, y) for y in "abc" for x in "02"]
    assert marks.hoverinfo == "skip" and "/ marks colours" in figure.layout.title.subtitle.text
    assert heatmap.customdata.dtype == np.float32


def test_a_slider_shows_a_map_with_its_marks():
    halves = np.full((3, 4), 1e3)
    figure = slides(some(3, halves=halves), SCALE, HOVER, "t", [])
    assert len(figure.data) == 6
    for i, step in enumerate(figure.layout.sliders[0].steps):
        assert step.args[0]["visible"] == [owner == i for owner in (0, 0, 1, 1, 2, 2)]


def test_where_there_is_no_value_it_is_grey():
    maps = some(1)
    assert facets(maps, SCALE, HOVER, "t", []).layout.plot_bgcolor == "white"
    maps[0].values[1, 1] = np.nan
    figure = facets(maps, SCALE, HOVER, "t", [])
    assert figure.layout.plot_bgcolor == "#dedede" and figure.data[0].hoverongaps is False
