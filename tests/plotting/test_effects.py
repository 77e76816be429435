"""Figures of causal mediation: what is drawn is the result's, whatever object has its attributes."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from drawn_figures import TOKENS, drawn, labels, panels

from mlxtrace import plotting
from mlxtrace.errors import InputError
from mlxtrace.results.saved import Answer


def effects(positions=None, **changes):
    shape = (3,) if positions is None else (3, len(positions))
    direct, indirect = np.random.default_rng(0).uniform(0, 0.8, (2, *shape))
    told = dict(
        direct=direct,
        indirect=indirect,
        direct_change=direct - 0.1,
        base_value=0.1,
        component="mlp",
        layers=[2, 4, 6],
        positions=positions,
        window=1,
        metric="prob",
        tokens=TOKENS,
        subject_range=range(1, 3),
        regions=None,
        ids=[],
        halves={},
        runs=[("base", 'Paris is in → " France" 0.70'), ("source", 'Rio is in → " Brazil" 0.90')],
    )
    return SimpleNamespace(**(told | changes))


def test_bars_are_the_effects_with_their_lines():
    result = effects()
    direct, indirect = panels(plotting.effects(result))
    np.testing.assert_allclose([bar.get_height() for bar in direct.patches], result.direct_change)
    np.testing.assert_allclose([bar.get_height() for bar in indirect.patches], result.indirect)
    assert [ax.lines[0].get_ydata()[0] for ax in (direct, indirect)] == [0.0, 0.0]
    assert direct.get_ylim() == indirect.get_ylim() and direct.get_title().startswith(
        "Direct less the base run"
    )
    assert labels(direct.xaxis) == ["2", "4", "6"] and direct.get_ylabel() == "change of prob"
    assert panels(plotting.effects(effects(window=3)))[0].get_xlabel() == "centre of 3 layers"


def test_maps_have_the_tokens_that_were_patched_down():
    result = effects([1, 3])
    fig = plotting.effects(result)
    direct, indirect = panels(fig)
    np.testing.assert_allclose(drawn(direct), result.direct_change.T)
    np.testing.assert_allclose(drawn(indirect), result.indirect.T)
    assert labels(direct.yaxis) == ["·Eiffel*", "·in"]
    assert direct.get_title().replace("\n", " ") == "Direct less the base run: natural indirect effect"
    assert "natural direct effect: source run - indirect - base run" in " ".join(fig.get_supxlabel().split())
    caption = fig.get_supxlabel().replace("\u00a0", " ")
    assert 'base: Paris is in → " France" 0.70' in caption and 'source: Rio is in → " Brazil" 0.90' in caption


def test_windows_of_noise_have_a_bar_each():
    result = SimpleNamespace(
        layers=[0, 1, 2],
        scores=np.array([0.2, 0.5, 0.4]),
        clean=0.9,
        noised=0.1,
        component="resid_post",
        window=3,
        prompt="Paris is in",
        answer=Answer(1, " France", 0.9, 0.1),
        ids=[],
        halves=None,
    )
    fig = plotting.noising(result)
    (ax,) = panels(fig)
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], result.scores)
    assert [line.get_ydata()[0] for line in ax.lines] == [0.9, 0.1]
    assert ax.patches[0].get_facecolor() == matplotlib.colormaps["Purples"](0.7)
    assert fig.get_suptitle().replace("\n", " ") == "Noise on every layer output but a window"


def test_paths_are_refused_before_drawing(tmp_path):
    for draw in (plotting.effects, plotting.noising):
        with pytest.raises(InputError, match="folder"):
            draw(None, tmp_path / "no" / "x.png")
