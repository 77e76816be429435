"""Bars and maps of recoveries: the numbers, labels and colours that are drawn are the result's."""

import matplotlib
import numpy as np
import pytest
from drawn_figures import drawn, labels, maps, panels
from test_patching_result import CORRUPTED, full, layers, make

from mlxtrace import plotting
from mlxtrace.errors import InputError


def test_bars_are_the_recoveries_by_layer():
    result = layers()
    fig = plotting.plot(result)
    (ax,) = panels(fig)
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], result.recovery)
    assert labels(ax.xaxis) == ["0", "1", "2", "3"] and ax.get_xlabel() == "layer"
    assert ax.get_ylabel() == "recovery of probability (%)"
    assert fig.get_suptitle() == "Restoring the MLP output (whole sequence)"
    caption = fig.get_supxlabel().replace("\u00a0", " ")
    assert 'clean: The Eiffel Tower in → " Paris" 0.90' in caption and '" Rome" 0.80' in caption
    dark, light = ax.patches[1].get_facecolor(), ax.patches[2].get_facecolor()
    assert dark != light == matplotlib.colormaps["Greens"](0.4)  # a negative recovery is paler


def test_bars_of_noising_hang_from_100():
    result = make([0.1, 0.5, 0.9, 0.95], direction="noise")
    (ax,) = panels(plotting.plot(result))
    np.testing.assert_allclose([bar.get_y() for bar in ax.patches], 100)
    np.testing.assert_allclose([b.get_y() + b.get_height() for b in ax.patches], result.recovery)
    assert ax.patches[0].get_facecolor() != ax.patches[3].get_facecolor()


@pytest.mark.parametrize("n_layers", [4, 30])
def test_components_share_the_scale(n_layers):
    raw = np.random.default_rng(0).uniform(0, 1, (2, n_layers))
    result = make(raw, ("component", "layer"))
    axes = panels(plotting.plot(result))
    assert [ax.get_title() for ax in axes] == ["MLP output", "Attention output"]
    assert axes[0].get_ylim() == axes[1].get_ylim()
    for ax, values in zip(axes, result.recovery, strict=True):
        np.testing.assert_allclose([bar.get_height() for bar in ax.patches], values)


def test_a_map_has_tokens_down_layers_across_and_the_subject_marked():
    result = maps(components=2)
    axes = panels(plotting.plot(result))
    for ax, values in zip(axes, result.recovery, strict=True):
        np.testing.assert_allclose(drawn(ax), values.T)
        assert ax.get_ylim()[0] > ax.get_ylim()[1] and ax.get_xlabel() == "layer"  # the first token on top
    assert labels(axes[0].yaxis) == ["The", "·Eiffel → ·Colos*", "·Tower → seum*", "·in"]
    assert labels(axes[0].xaxis) == ["0", "1", "2"]
    limits = {ax.collections[0].get_clim() for ax in axes}
    assert len(limits) == 1 and limits.pop()[1] == pytest.approx(result.recovery.max())


def test_each_component_has_its_own_window_on_its_axis():
    settings = {"windows": {"mlp": 1, "attn": 3}}
    fig = plotting.plot(maps(components=2, window=3, settings=settings))
    assert [ax.get_xlabel() for ax in panels(fig)] == ["single layer", "centre of 3 layers"]
    assert "of attn 3 layers at a time" in fig.get_suptitle().replace("\n", " ")
    bars = panels(plotting.plot(make(np.ones((2, 4)), ("component", "layer"), window=3, settings=settings)))
    titles = ["MLP output, single layer", "Attention output, centre of 3 layers"]
    assert [ax.get_title() for ax in bars] == titles and bars[0].get_xlabel() == "layer"
    alike = panels(plotting.plot(maps(components=2, window=3)))
    assert [ax.get_xlabel() for ax in alike] == ["centre of 3 layers"] * 2


def test_prompts_of_different_lengths_are_not_paired():
    (ax,) = panels(plotting.plot(maps(corrupted_tokens=["The", " Colosseum", " in"])))
    assert labels(ax.yaxis) == ["The", "·Eiffel*", "·Tower*", "·in"]


def test_head_maps():
    result = make(np.random.default_rng(0).uniform(0, 1, (3, 5)), ("layer", "head"))
    (ax,) = panels(plotting.plot(result))
    np.testing.assert_allclose(drawn(ax), result.recovery)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("head", "layer") and labels(ax.xaxis) == list("01234")
    assert len(panels(plotting.plot(full(), metric="kl"))) == 10


def test_of_many_heads_the_strongest_are_drawn():
    raw = np.full((3, 4, 20), CORRUPTED)
    raw[1, 2, 4:] = 0.9
    fig = plotting.plot(make(raw, ("layer", "position", "head"), components=["head"]))
    assert [ax.get_title() for ax in panels(fig)] == [f"head {h}" for h in range(4, 20)]
    assert "16 of 20 heads" in fig.get_suptitle().replace("\n", " ")


def test_labels_of_a_selection_are_its_own():
    result = make(np.full((2, 2), 0.3), ("layer", "position"), coords={"layer": [4, 9], "position": [1, 3]})
    (ax,) = panels(plotting.plot(result))
    assert labels(ax.xaxis) == ["4", "9"] and labels(ax.yaxis) == ["·Eiffel → ·Colos*", "·in"]


def test_an_unknown_metric_is_refused():
    with pytest.raises(InputError, match="closest: prob"):
        layers().plot(metric="probs")
