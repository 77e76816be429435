"""A screen to look around in: a point for each cell that was run, where its numbers are, with its name."""

import numpy as np
import pytest
from test_screened import STRONG, screened

from mlxtrace import interactive

pytest.importorskip("plotly")


def test_each_cell_is_a_point_with_its_name():
    found = screened([*STRONG, 0.05, -0.02], 12, 40)
    figure = found.explore()
    line, audit, verified = figure.data
    linear = found.threshold / 10
    np.testing.assert_allclose(np.sinh(verified.y) * linear, found.effects[:12])
    np.testing.assert_allclose(np.sinh(verified.x) * linear, found.estimates[:12])
    np.testing.assert_allclose(np.sinh(audit.y) * linear, found.effects[12:])
    assert (
        verified.name == "verified (12)" and audit.name == "audit, at random (2)" and line.hoverinfo == "skip"
    )
    first = verified.hovertext[0]
    assert first.startswith("neuron, layer 1, neuron 0, position 2, ·x<br>effect <b>0.1</b>, exact")
    assert "estimate 0.08, place 1 of the ranking" in first
    heights = sorted(np.sinh(shape.y0) * linear for shape in figure.layout.shapes)
    np.testing.assert_allclose(heights, [-found.threshold, found.threshold])


def test_ticks_are_powers_of_ten():
    figure = screened([*STRONG, 30.0], 12, 40).explore()
    values = [float(text) for text in figure.layout.xaxis.ticktext]
    linear = screened([*STRONG, 30.0], 12, 40).threshold / 10
    np.testing.assert_allclose(np.sinh(figure.layout.xaxis.tickvals) * linear, values, atol=1e-12)
    assert {0.0, 1.0, 10.0, -10.0} <= set(values)


@pytest.mark.parametrize("effects", [(), (0.0, 0.0, 0.0), (1e-12,) * 4, (1e6, 1e-6, 3.0, 2.0)])
def test_odd_numbers_are_drawn(effects):
    figure = interactive.screen(screened(effects, min(3, len(effects)), 40))
    assert all(np.isfinite(np.asarray(trace.x, float)).all() for trace in figure.data)
