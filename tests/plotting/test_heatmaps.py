"""Heatmaps: white means nothing happened, scales end where they say, ticks stay readable."""

import numpy as np
import pytest
from drawn_figures import labels, panels
from test_patching_result import make

from mlxtrace import plotting


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_white_is_no_effect_and_the_component_s_colour_an_effect(direction):
    raw = np.array([[0.9, 0.1, 0.9, 0.1], [0.1, 0.9, 0.5, 0.0]])
    result = make(raw, ("layer", "position"), direction=direction)
    (ax,) = panels(plotting.plot(result))
    mesh = ax.collections[0]

    def colour(recovery):
        return np.array(mesh.cmap(mesh.norm(recovery))[:3])

    assert colour(result.no_effect).min() > 0.97
    assert colour(result.no_effect).min() == 1  # not a shade beside it
    red, green, blue = colour(0.0 if direction == "noise" else 100.0)
    assert green > 1.5 * max(red, blue)


def test_scale_is_clipped_and_says_so_and_nothing_is_not_blown_up():
    raw = np.full((2, 4), 0.1)
    (ax,) = panels(plotting.plot(make(raw, ("layer", "position"))))
    assert ax.collections[0].get_clim() == (0, 1)
    raw[0, 0], raw[1, 1] = 90, -90
    (ax,) = panels(plotting.plot(make(raw, ("layer", "position"))))
    assert ax.collections[0].get_clim() == (-100, 200) and ax.collections[0].colorbar.extend == "both"


def test_many_layers_keep_readable_ticks():
    (ax,) = panels(plotting.plot(make(np.full((96, 4), 0.3), ("layer", "position"))))
    assert 5 < len(ax.get_xticks()) < 40 and labels(ax.xaxis)[1] == str(round(ax.get_xticks()[1] - 0.5))
