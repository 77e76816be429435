"""Panels: a figure for each component of a map, without what the page says already, and the strongest numbers."""

import numpy as np
import pytest
from page_results import page_results
from test_patching_result import make

from mlxtrace.pages.methods import kind_of
from mlxtrace.pages.panels import OneComponent, panels_of
from mlxtrace.results.strongest import strongest

RAW = np.random.default_rng(2).uniform(0.1, 0.9, (2, 3, 4))


@pytest.fixture
def both():
    return make(RAW, ("component", "layer", "position"))


@pytest.mark.parametrize("way", ["denoise", "noise"])
def test_one_component_is_as_if_it_alone_had_been_patched(way):
    both = make(RAW, ("component", "layer", "position"), direction=way)
    alone = make(RAW[1], ("layer", "position"), components=["attn"], direction=way)
    view = OneComponent(both, "attn")
    assert view.to_rows() == alone.to_rows() and view.top(3) == alone.top(3)
    assert strongest(view) == strongest(alone)
    np.testing.assert_array_equal(view.panels()[0].values, alone.panels()[0].values)
    assert view.metrics == both.metrics and not hasattr(view, "nothing")


def test_a_map_has_a_panel_for_each_component(both):
    made = panels_of(both, kind_of(both))
    assert [panel.title for panel in made] == [
        "Restoring the MLP output (each token)",
        "Restoring the attention output (each token)",
    ]
    assert made[0].beside != made[1].beside
    other = panels_of(make(RAW, ("component", "layer", "position"), direction="noise"), "maps")
    assert [panel.beside for panel in other] == [panel.beside for panel in made]
    assert all("js-plotly" in panel.figure or "plotly" in panel.figure for panel in made)
    assert all('class="plot"' in panel.figure for panel in made)
    (bars,) = panels_of(make(RAW[:, :, 0], ("component", "layer")), "layers")
    assert 'class="plot wide"' in bars.figure  # two beside each other are scrolled on a telephone
    assert "The Colosseum in" not in made[0].figure  # the caption's prompts stand in the page


def test_the_table_has_the_strongest_cells(both):
    numbers = panels_of(both, "maps")[0].numbers
    best = OneComponent(both, "mlp").top(1)[0]
    assert "Numbers: all 12" in numbers and f"{best['prob_recovery']:.1f}" in numbers
    assert "prob recovery, %" in numbers


def test_a_long_table_is_cut_and_says_so():
    raw = np.random.default_rng(2).uniform(0.1, 0.9, (10, 4))
    numbers = panels_of(make(raw, ("layer", "position")), "maps")[0].numbers
    assert "Numbers: the 12 strongest of 40" in numbers and numbers.count("<tr>") == 13


@pytest.mark.parametrize("name", ["Faithfulness", "Completeness", "Direction"])
def test_what_has_no_figure_has_a_title(name):
    result = page_results()[name]
    (panel,) = panels_of(result, kind_of(result))
    assert panel.title and "<img" not in panel.figure
