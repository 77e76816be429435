"""The sheet of interactive figures: white in any theme, as wide as its place, tall enough for what is said."""

import pytest

from mlxtrace.interactive.frame import dress, rgb

plotly = pytest.importorskip("plotly.graph_objects")


def test_texts_are_inert_and_the_sheet_grows_with_them():
    short = dress(plotly.Figure(), "A <b>title</b>", ["one"], 300)
    long = dress(plotly.Figure(), "A title", [f"line {i}" for i in range(9)], 300, named=True)
    assert short.layout.title.text == "<b>A &lt;b&gt;title&lt;/b&gt;</b>"
    assert long.layout.height - short.layout.height == 8 * 16 + 20
    assert long.layout.height - long.layout.margin.t - long.layout.margin.b == 300
    assert short.layout.autosize and short.layout.width is None
    assert short.layout.meta["caption"] == ["one"] and "&lt;b&gt;" in short.layout.meta["title"]


def test_white_in_a_dark_theme():
    from plotly import io

    before, io.templates.default = io.templates.default, "plotly_dark"
    try:
        layout = dress(plotly.Figure(), "t", [], 300).layout
    finally:
        io.templates.default = before
    assert layout.paper_bgcolor == layout.plot_bgcolor == "white" and layout.font.color == "#222"
    assert not layout.template.layout.paper_bgcolor


def test_colours_of_matplotlib():
    assert rgb((1.0, 0.5, 0.0, 1.0)) == "#ff8000" and rgb([0, 0, 0]) == "#000000"
