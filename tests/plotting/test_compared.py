"""Results side by side: each bar and cell is where it belongs, on one scale; what has no common axes is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
from drawn_figures import drawn, labels, maps, panels
from test_certainty import strokes, whisker_ends
from test_patching_result import layers, make
from test_patching_set import REGIONS, a_set, single

from mlxtrace.errors import InputError
from mlxtrace.plotting import compare


def bars(ax):
    """`{label: [(centre, bottom, height), ...]}` of the bars that are drawn."""
    return {
        c.get_label(): [(b.get_x() + b.get_width() / 2, b.get_y(), b.get_height()) for b in c.patches]
        for c in ax.containers
        if hasattr(c, "patches")
    }


def test_bars_of_models_of_different_depth_stand_at_their_own_layers():
    small, large = a_set(), make(np.linspace(0.1, 0.8, 7), model="large", metrics=["prob"])
    fig = compare([small, large], labels=["small", "large"])
    (ax,) = panels(fig)
    found = bars(ax)
    for name, result, shift in (("small", small, -0.21), ("large", large, 0.21)):
        at, bottoms, heights = np.transpose(found[name])
        np.testing.assert_allclose(at, np.array(result.coords["layer"]) + shift)
        np.testing.assert_allclose(heights, result.recovery)
        assert not bottoms.any()
    np.testing.assert_allclose(
        whisker_ends(ax), np.stack([small.low, small.high], -1)
    )  # the other is of one pair
    assert labels(ax.xaxis) == list("0123456") and ax.get_ylabel() == "recovery of probability (%)"
    caption = fig.get_supxlabel().replace("\n    ", " ")
    assert (
        "small: Restoring the MLP output over 7 pairs (whole sequence), probability, demo, 4 layers"
        in caption
    )
    assert "large: " in caption and "large, 7 layers" in caption and "whiskers" in caption
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["small", "large"]


def test_a_selection_of_layers_stands_at_its_own_places():
    some = make([0.2, 0.7, 0.4], coords={"layer": [1, 3, 6]})
    (ax,) = panels(compare([some, layers()], labels=["some", "all"]))
    assert labels(ax.xaxis) == ["0", "1", "2", "3", "6"]
    np.testing.assert_allclose([at for at, _, _ in bars(ax)["some"]], np.array([1, 3, 4]) - 0.21)


def test_the_colours_are_apart_in_grey():
    for n in (2, 3, 4, 7):
        results = [make(np.full(4, 0.2 + 0.1 * i)) for i in range(n)]
        (ax,) = panels(compare(results, labels=[f"r{i}" for i in range(n)]))
        colours = [c.patches[0].get_facecolor()[:3] for c in ax.containers if hasattr(c, "patches")]
        greys = sorted(np.array(colours) @ (0.299, 0.587, 0.114))
        assert len(greys) == n and np.diff(greys).min() > 0.04


def test_directions_are_compared_by_their_effects():
    denoised, noised = make([0.1, 0.5, 0.3, 0.9]), make([0.9, 0.5, 0.2, 0.1], direction="noise")
    (ax,) = panels(fig := compare([denoised, noised], labels=["restored", "broken"]))
    found = bars(ax)
    np.testing.assert_allclose([h for _, _, h in found["restored"]], denoised.recovery)
    np.testing.assert_allclose([h for _, _, h in found["broken"]], 100 - noised.recovery)
    assert ax.get_ylabel() == "effect on probability (%)" and "effect: the recovery" in fig.get_supxlabel()
    (ax,) = panels(compare([noised, noised], labels=["a", "b"]))  # alike: recoveries, hanging from 100
    np.testing.assert_allclose([b + h for _, b, h in bars(ax)["a"]], noised.recovery)
    assert {b for _, b, _ in bars(ax)["a"]} == {100} and ax.get_ylabel().startswith("recovery")


def test_metrics_and_components_may_differ():
    kl = make([3.0, 2, 1, 0], metrics=["kl"], clean={"kl": 0.0}, corrupted={"kl": 4.0}, components=["attn"])
    fig = compare([layers(), kl], labels=["prob", "kl"])
    (ax,) = panels(fig)
    np.testing.assert_allclose([h for _, _, h in bars(ax)["kl"]], kl.recovery)
    assert ax.get_ylabel() == "recovery (%)" and "KL" in fig.get_supxlabel().upper()
    both = a_set(("component", "metric", "layer"))
    fig = compare([both, both], labels=["a", "b"], metric="kl")
    for ax, values in zip(panels(fig), both.recovery[:, 1], strict=True):
        np.testing.assert_allclose([h for _, _, h in bars(ax)["b"]], values)


def test_sets_with_other_regions_share_their_rows():
    rng = np.random.default_rng(0)
    first, second = single(rng, ("layer", "region"), ["first", "last"]), a_set(("layer", "region"), n=5)
    fig = compare([first, second], labels=["one pair", "five"])
    one, five = panels(fig)
    assert labels(one.yaxis) == REGIONS and [ax.get_title() for ax in (one, five)] == ["one pair", "five"]
    np.testing.assert_allclose(drawn(five), second.recovery.T)
    values = np.ma.filled(one.collections[0].get_array(), np.nan)
    np.testing.assert_allclose(values[[0, 2]], first.recovery.T)
    assert np.isnan(values[1]).all() and "grey: there is no such cell" in fig.get_supxlabel()
    assert one.collections[0].get_clim() == five.collections[0].get_clim()
    assert len(one.collections) == 1 and strokes(five)


def test_maps_by_head_and_by_position():
    few, many = make(np.full((3, 2), 0.3), ("layer", "head")), make(np.full((4, 5), 0.6), ("layer", "head"))
    left, right = panels(compare([few, many], labels=["few", "many"]))
    assert np.isfinite(np.ma.filled(left.collections[0].get_array(), np.nan)).sum() == 6
    assert labels(right.xaxis) == list("01234") and left.get_ylabel() == "layer"
    fig = compare([maps(2), maps(2)], labels=["a", "b"])
    assert [ax.get_title() for ax in panels(fig)] == ["a: mlp", "a: attn", "b: mlp", "b: attn"]
    np.testing.assert_allclose(drawn(panels(fig)[3]), maps(2).recovery[1].T)


@pytest.mark.parametrize(
    "results,names,says",
    [
        ([layers()], ["a"], "two or more results, not 1: one has its own"),
        ([], [], "not 0"),
        (layers(), ["a"], "takes a list of results"),
        ([layers(), layers()], None, "labels= names each of the 2 results"),
        ([layers(), layers()], ["a"], "names each of the 2"),
        ([layers(), layers()], "ab", "names each of the 2"),
        ([layers(), layers()], ["a", "a"], "a label of its own"),
        ([layers(), SimpleNamespace()], ["a", "b"], "result 1 is a SimpleNamespace"),
        ([layers(), maps()], ["a", "b"], "'a' has layer, 'b' has layer x position: these share no axes"),
        ([maps(), maps(tokens=list("abcd"))], ["a", "b"], "by position, of prompts with other tokens"),
        ([maps(), maps(2)], ["a", "b"], "'a' has mlp, 'b' has mlp, attn: patch the same components"),
        ([maps(2)] * 9, list("abcdefghi"), "these are 18 maps"),
    ],
)
def test_what_cannot_be_compared_is_refused(results, names, says, tmp_path):
    with pytest.raises(InputError, match=says):
        compare(results, names, tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())


def test_a_metric_that_one_has_not_is_refused():
    with pytest.raises(InputError, match="no metric 'kl'"):
        compare([layers(), layers()], ["a", "b"], metric="kl")
