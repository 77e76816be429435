"""Figures: the numbers, labels and colours that are drawn are the result's."""

import os

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from test_patching_result import CORRUPTED, full, layers, make

from mlxtrace import plotting
from mlxtrace.errors import InputError
from mlxtrace.plotting import maps as drawing

TOKENS = ["The", " Eiffel", " Tower", " in"]


def maps(components=1, **changes):
    raw = np.random.default_rng(0).uniform(0.1, 0.9, (components, 3, 4))
    if components == 1:
        return make(raw[0], ("layer", "position"), **changes)
    return make(raw, ("component", "layer", "position"), **changes)


def panels(fig):
    return [ax for ax in fig.axes if ax.get_label() != "<colorbar>"]


def labels(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def drawn(ax):
    mesh = ax.collections[0]
    return np.asarray(mesh.get_array())


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
    assert dark != light == drawing.mpl.colormaps["Greens"](0.4)  # a negative recovery is paler


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


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_white_is_no_effect_and_the_component_s_colour_an_effect(direction):
    raw = np.array([[0.9, 0.1, 0.9, 0.1], [0.1, 0.9, 0.5, 0.0]])
    result = make(raw, ("layer", "position"), direction=direction)
    (ax,) = panels(plotting.plot(result))
    mesh = ax.collections[0]

    def colour(recovery):
        return np.array(mesh.cmap(mesh.norm(recovery))[:3])

    assert colour(result.no_effect).min() > 0.97
    red, green, blue = colour(0.0 if direction == "noise" else 100.0)
    assert green > 1.5 * max(red, blue)


def test_scale_is_clipped_and_says_so_and_nothing_is_not_blown_up():
    raw = np.full((2, 4), 0.1)
    (ax,) = panels(plotting.plot(make(raw, ("layer", "position"))))
    assert ax.collections[0].get_clim() == (0, 1)
    raw[0, 0], raw[1, 1] = 90, -90
    (ax,) = panels(plotting.plot(make(raw, ("layer", "position"))))
    assert ax.collections[0].get_clim() == (-100, 200) and ax.collections[0].colorbar.extend == "both"


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


def test_many_layers_keep_readable_ticks():
    (ax,) = panels(plotting.plot(make(np.full((96, 4), 0.3), ("layer", "position"))))
    assert 5 < len(ax.get_xticks()) < 40 and labels(ax.xaxis)[1] == str(round(ax.get_xticks()[1] - 0.5))


def test_any_token_can_be_drawn(tmp_path):
    odd = ["$x$", " 東京\n", "\x00\t", "x" * 50]
    result = maps(tokens=odd, corrupted_tokens=odd, clean_text="costs $5 or $6", subject_range=None)
    fig = result.plot(tmp_path / "odd.svg")
    names = labels(panels(fig)[0].yaxis)
    assert names[0] == r"\$x\$" and names[1] == "·東京↵" and names[2] == r"\x00⇥" and len(names[3]) == 18
    assert (tmp_path / "odd.svg").stat().st_size > 1000


@pytest.mark.parametrize("suffix,magic", [(".png", b"\x89PNG"), (".PDF", b"%PDF"), (".svg", b"<?xml")])
def test_files_by_suffix(suffix, magic, tmp_path):
    path = tmp_path / f"figure{suffix}"
    assert isinstance(layers().plot(path), Figure)
    assert path.read_bytes().startswith(magic) and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "name,says", [("a.jpg", r"\.png, \.pdf, \.svg"), ("a", "without suffix"), ("no/a.png", "folder")]
)
def test_paths_are_refused_before_anything_is_drawn(name, says, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "_bars", lambda *_: pytest.fail("was drawn"))
    with pytest.raises(InputError, match=says):
        layers().plot(tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_an_unknown_metric_is_refused():
    with pytest.raises(InputError, match="closest: prob"):
        layers().plot(metric="probs")


def test_figures_are_unknown_to_pyplot_and_settings_stay(tmp_path):
    before, figures = dict(matplotlib.rcParams), plt.get_fignums()
    maps().plot(tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before and plt.get_fignums() == figures


def test_rome_heatmap():
    scores = np.random.default_rng(0).uniform(0.02, 0.8, (4, 6))
    fig = plotting.rome_heatmap(
        scores, TOKENS, subject_range=range(1, 3), low=0.02, high=0.9, kind="mlp", answer=" Paris", window=5
    )
    (ax,) = panels(fig)
    np.testing.assert_array_equal(drawn(ax), scores)
    assert labels(ax.yaxis) == ["The", "·Eiffel*", "·Tower*", "·in"]
    assert ax.get_xlabel() == "centre of 5 restored MLP layers"
    assert ax.collections[0].colorbar.ax.get_ylabel() == "p(Paris)"
    assert ax.collections[0].get_clim() == (0.02, scores.max())
    assert fig.get_suptitle().replace("\n", " ") == "Impact of restoring MLP after corrupted input"
    three = panels(
        plotting.rome_heatmap({None: scores, "mlp": scores / 2, "attn": scores / 3}, TOKENS, low=0.02)
    )
    assert {ax.collections[0].get_clim() for ax in three} == {(0.02, scores.max())}
    assert three[0].get_xlabel() == "single restored layer"
    for bad in (dict(scores=scores[:3]), dict(kind="head"), dict(scores=scores * np.nan)):
        with pytest.raises(InputError):
            plotting.rome_heatmap(**(dict(scores=scores, tokens=TOKENS, low=0.0) | bad))


def test_head_heatmap_and_attention_pattern(tmp_path):
    values = np.random.default_rng(0).normal(size=(3, 5))
    (ax,) = panels(plotting.head_heatmap(values, layers=[2, 4, 6], label="effect"))
    np.testing.assert_array_equal(drawn(ax), values)
    assert labels(ax.yaxis) == ["2", "4", "6"]
    pattern = np.tril(np.random.default_rng(0).uniform(size=(2, 4, 4)))
    fig = plotting.attention_pattern(pattern, TOKENS, heads=[3, 7], path=tmp_path / "p.pdf")
    axes = panels(fig)
    assert [ax.get_title() for ax in axes] == ["head 3", "head 7"] and (tmp_path / "p.pdf").exists()
    np.testing.assert_array_equal(drawn(axes[1]), pattern[1])
    assert labels(axes[0].xaxis) == labels(axes[0].yaxis) == ["The", "·Eiffel", "·Tower", "·in"]
    with pytest.raises(InputError, match=r"\[heads, 3, 3\]"):
        plotting.attention_pattern(pattern, TOKENS[:3])
    with pytest.raises(InputError, match="2 heads"):
        plotting.attention_pattern(pattern, TOKENS, heads=[1])
