"""Bars with hover: heights, intervals, lines and names."""

import numpy as np
import pytest

from mlxtrace.interactive.bars import Bars, bar_figure

pytest.importorskip("plotly")
BLUE = (0, 0, 1)


def test_each_bar_says_its_number_and_interval():
    one = Bars("<i>One", ["0", "1"], np.array([5.0, -2.0]), np.array([1.0, np.nan]), BLUE)
    two = one._replace(title="Two", halves=None)
    figure = bar_figure([one, two], "effect", "layer", " %", "t", [], lines=[(3.0, "base <run>")])
    first, second = figure.data
    assert first.hovertext[0] == "layer <b>0</b><br>effect <b>5.0 %</b><br>4.0 to 6.0 % (95 %)"
    assert first.hovertext[1] == "layer <b>1</b><br>effect <b>-2.0 %</b>"
    assert first.error_y.array[0] == 1 and second.error_y.array is None
    assert [note.text for note in figure.layout.annotations] == ["&lt;i&gt;One", "Two"]
    named = [shape for shape in figure.layout.shapes if shape.name]
    assert {shape.name for shape in named} == {"base &lt;run&gt;"} and {shape.y0 for shape in named} == {3.0}
    assert [shape.showlegend for shape in named] == [True, False]
    assert "whiskers: 95 %" in figure.layout.title.subtitle.text


def test_bars_start_where_nothing_happens():
    figure = bar_figure([Bars("", ["0"], np.array([40.0]), None, BLUE, 100.0)], "v", "layer", "", "t", [])
    (bar,) = figure.data
    assert (bar.base, bar.y[0]) == (100, -60) and "whiskers" not in (figure.layout.title.subtitle.text or "")


def test_many_panels_stand_in_rows():
    panels = [Bars(str(i), ["0"], np.array([1.0]), None, BLUE) for i in range(6)]
    figure = bar_figure(panels, "v", "layer", "", "t", [])
    assert len(figure.data) == 6 and figure.layout.height > 2 * 260
    assert sum(figure.layout[f"yaxis{i}"].matches is None for i in ("", *range(2, 7))) == 1  # all follow one
