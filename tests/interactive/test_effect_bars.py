"""Effects and noised layers to look around in: heights, maps, lines and names are the result's."""

from types import SimpleNamespace

import numpy as np
import pytest
from test_causal_effects_result import made

from mlxtrace import interactive
from mlxtrace.errors import InputError
from mlxtrace.results.causal_effects_result import CausalEffects

pytest.importorskip("plotly")


def test_both_effects_start_at_0():
    result = made()
    direct, indirect = result.explore().data
    np.testing.assert_allclose(direct.y, result.direct - 0.1)
    np.testing.assert_allclose(indirect.y, result.indirect)
    assert direct.base == indirect.base == 0 and list(direct.x) == ["3", "5"]
    assert direct.hovertext[1] == f"layer <b>5</b><br>prob <b>{result.direct[1] - 0.1:.4f}</b>"
    said = result.explore().layout.title.subtitle.text
    assert "prob in the base run: 0.1" in said and "natural indirect effect" in said
    with pytest.raises(InputError, match="no map with a row for each token"):
        result.explore(rows=[0])


def test_intervals_are_those_of_the_change():
    halves = {
        name: np.array(x)
        for name, x in (("direct", [9, 9]), ("direct_change", [0.1, 0.2]), ("indirect", [0.3, 0.4]))
    }

    class Over(CausalEffects):
        ids = property(lambda self: ["a", "b"])
        halves = property(lambda self: halves)

    result = Over(**vars(made()))
    direct, indirect = result.explore().data
    assert list(direct.error_y.array) == [0.1, 0.2] and list(indirect.error_y.array) == [0.3, 0.4]
    assert "0.3000 to 0.7000 (95 %)" in direct.hovertext[1]


def test_maps_have_the_tokens_that_were_patched_down():
    result = made(positions=[0, 2])
    direct, indirect = result.explore().data
    np.testing.assert_allclose(direct.z, result.direct_change.T, rtol=1e-6)
    np.testing.assert_allclose(indirect.z, result.indirect.T, rtol=1e-6)
    assert list(direct.y) == ["0 Rio*", "2 ·in"] and direct.coloraxis == indirect.coloraxis
    assert list(result.explore(rows=[2]).data[0].y)[-1] == "2 ·in"


def test_regions_are_rows():
    result = made(positions=[0, 2])
    result.regions, result.positions = ["subject", "<last>"], None
    assert list(result.explore().data[0].y) == ["subject", "&lt;last&gt;"]
    with pytest.raises(InputError):
        result.explore(rows=[0])


@pytest.mark.parametrize("halves", [None, np.array([0.1, np.nan, 0.2])])
def test_windows_of_noise_have_a_bar_each(halves):
    result = SimpleNamespace(
        layers=[0, 1, 2], scores=np.array([0.2, 0.5, 0.4]), clean=0.9, noised=0.1, component="resid_post", window=3,
        prompt="Paris is in", answer=None, ids=[], halves=halves,
    )  # fmt: skip
    figure = interactive.noising(result)
    (bars,) = figure.data
    np.testing.assert_allclose(bars.y, result.scores)
    heights = {shape.name: shape.y0 for shape in figure.layout.shapes if shape.name}
    assert (
        heights == {"clean 0.9": 0.9, "all layers noised 0.1": 0.1}
        and figure.layout.yaxis.title.text == "p(answer)"
    )
    assert ("0.1000 to 0.3000 (95 %)" in bars.hovertext[0]) == (halves is not None)
    assert bars.hovertext[1] == "centre <b>1</b><br>p(answer) <b>0.5000</b>"
