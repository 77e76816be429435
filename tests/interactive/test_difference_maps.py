"""Differences to look around in: numbers in percentage points, intervals, and white where there is none."""

import numpy as np
import pytest
from test_patching_difference import difference
from test_patching_result import make

from mlxtrace.errors import InputError

pytest.importorskip("plotly")


def test_bars_have_their_intervals():
    result = difference()
    (bars,) = result.explore().data
    (panel,) = result.panels()
    np.testing.assert_allclose(bars.y, panel.values[:, 0])
    np.testing.assert_allclose(bars.error_y.array, panel.halves[:, 0])
    assert "points" in bars.hovertext[0] and "(95 %)" in bars.hovertext[0]
    for given in ({"rows": [0]}, {"metric": "logit"}):
        with pytest.raises(InputError):
            result.explore(**given)


def test_maps_are_white_at_0():
    result = difference(("layer", "head"))
    figure = result.explore()
    np.testing.assert_allclose(figure.data[0].z, result.panels()[0].values, rtol=1e-5)
    axis = figure.layout.coloraxis
    assert axis.cmax == -axis.cmin and dict(axis.colorscale)[0.5] == "#ffffff"
    assert figure.data[0].hovertemplate.startswith("layer <b>%{y}</b><br>head <b>%{x}</b><br>difference")


def test_heads_of_each_token_have_a_slider():
    rng = np.random.default_rng(0)
    one, other = (make(rng.uniform(0.1, 0.9, (3, 4, 2)), ("layer", "position", "head")) for _ in range(2))
    result = one - other
    figure = result.explore()
    assert len(figure.layout.sliders[0].steps) == 2 and figure.data[0].y[1] == "1 ·Eiffel"
    np.testing.assert_allclose(figure.data[1].z, (one.recovery - other.recovery)[..., 1].T, rtol=1e-5)
