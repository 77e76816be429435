"""Maps of any size: no label, title or caption lies on another or leaves the figure, which fits a page."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from drawn_figures import labels, panels
from measured_figures import averages, effects, lens, measure, paths, pattern, recoveries, scope, tokens
from test_patching_result import make

from mlxtrace import plotting
from mlxtrace.errors import InputError
from mlxtrace.plotting import token_maps
from mlxtrace.plotting.colours import ink
from mlxtrace.plotting.heatmaps import Plain


def trace(n_tokens, n_layers, **look):
    random = np.random.default_rng(0)
    scores = random.uniform(0, 0.02, (n_tokens, n_layers))
    scores[-3:] = random.uniform(0, 0.8, scores[-3:].shape)
    kinds = {None: scores, "mlp": scores / 2, "attn": scores / 3}
    subject = range(n_tokens // 2, n_tokens // 2 + 2)
    names = dict(subject_range=subject, low=0.01, high=0.9, answer=" Paris", model="/home/ann/gpt2-xl")
    return plotting.rome_heatmap(kinds, tokens(n_tokens), **names, **look)


def heads_of(n_layers, heads, **look):
    return plotting.head_heatmap(
        np.random.default_rng(0).normal(size=(n_layers, heads)), title="Heads", **look
    )


DRAWN = {
    "map": lambda t, n, h: recoveries(t, n).plot(),
    "two components": lambda t, n, h: recoveries(t, n, components=2).plot(),
    "every row": lambda t, n, h: recoveries(t, n).plot(rows="all"),
    "noise": lambda t, n, h: recoveries(t, n, direction="noise", spread=-3).plot(),
    "heads": lambda t, n, h: recoveries(t, n, heads=h).plot(),
    "trace": lambda t, n, h: trace(t, n),
    "layers x heads": lambda t, n, h: heads_of(n, h),
    "pattern": lambda t, n, h: plotting.attention_pattern(
        pattern(min(h, 20), min(t, 500)), tokens(min(t, 500))
    ),
    "lens": lambda t, n, h: token_maps.lens(lens(n, t)),
    "patchscopes": lambda t, n, h: token_maps.scope(scope(n)),
    "effects": lambda t, n, h: plotting.effects(effects(t, n)),
    "averages": lambda t, n, h: plotting.average_maps(averages(n)),
    "paths": lambda t, n, h: plotting.path_map(paths(n)),
    "less another": lambda t, n, h: (recoveries(t, n) - recoveries(t, n, spread=0.5)).plot(),
    "beside another": lambda t, n, h: plotting.compare([recoveries(t, n)] * 2, labels=["one", "other"]),
}
FEW = (
    "map",
    "heads",
    "trace",
    "pattern",
    "lens",
    "effects",
    "beside another",
)  # where things stand otherwise


@pytest.mark.parametrize("what", FEW)
def test_nothing_overlaps_or_leaves_the_figure(what):
    measure(DRAWN[what](100, 48, 9))


SIZES = [(2, 2, 1), (12, 12, 8), (12, 80, 64), (60, 126, 8), (61, 24, 12), (500, 80, 64), (2000, 126, 128)]


@pytest.mark.heavy
@pytest.mark.parametrize("what", DRAWN)
@pytest.mark.parametrize("size", SIZES)
def test_nothing_overlaps_at_any_size(what, size):
    measure(DRAWN[what](*size))


def test_a_long_map_is_cut_to_what_matters_and_says_so():
    result = recoveries(500, 12)
    figure = result.plot()
    (ax,) = panels(figure)
    assert labels(ax.yaxis) == [
        "⋮ 0-397",
        "398 ·Eiffel → ·Egyptian*",
        f"399 ·{result.tokens[399].strip()}",
        "⋮ 400-498",
        f"499 ·{result.tokens[499].strip()}",
    ]
    assert [text.get_text() for text in ax.texts] == ["rows 0-397 are 0", "rows 400-498 are 0"]
    assert "rows 0-397 are 0; rows 400-498 are 0" in figure.get_supxlabel()
    values = np.asarray(ax.collections[0].get_array())
    np.testing.assert_allclose(values[[1, 2, 4]], result.recovery.T[[398, 399, 499]])
    assert np.isnan(values[[0, 3]]).all()
    caption = " ".join(figure.get_supxlabel().split())
    assert "[Eiffel]" in caption and "[Egyptian]" in caption and " … " in caption and len(caption) < 900


def test_rows_may_be_asked_for_in_every_map_of_tokens():
    last = {
        "map": recoveries(100, 4).plot(rows=[3, -1]),
        "trace": trace(100, 4, rows=[3, -1]),
        "pattern": plotting.attention_pattern(pattern(1, 100), tokens(100), rows=[3, -1], keys=[3, -1]),
        "lens": token_maps.lens(lens(4, 100), rows=[3, -1]),
    }
    for what, figure in last.items():
        ax = panels(figure)[0]
        shown = labels(ax.xaxis if what == "lens" else ax.yaxis)
        assert [x.split()[0] for x in shown if "⋮" not in x] == ["3", "99"], what
        assert "0-2" in figure.get_supxlabel() and "4-98" in figure.get_supxlabel(), what
    assert len(labels(panels(recoveries(100, 4).plot(rows="all"))[0].yaxis)) > 40
    with pytest.raises(InputError, match="no row 100"):
        recoveries(100, 4).plot(rows=[100])
    with pytest.raises(InputError, match="rows of this map are layers"):
        make(np.full((4, 3), 0.5), ("layer", "head")).plot(rows=[1])
    with pytest.raises(InputError, match="one number for each layer"):
        make(np.full(4, 0.5)).plot(rows=[1])


def test_many_scattered_rows_are_parted_by_lines():
    raw, words = np.full((4, 400), 0.1), tokens(400)
    raw[:, ::40] = 0.9
    figure = make(raw, ("layer", "position"), tokens=words, corrupted_tokens=words, subject_range=None).plot()
    (ax,) = panels(figure)
    assert [label.split()[0] for label in labels(ax.yaxis)] == [*map(str, range(0, 400, 40)), "399"]
    assert len(ax.collections) == 2 and "389 of 400 rows are not shown; they are 0" in figure.get_supxlabel()


@pytest.mark.parametrize("what", ["map", "trace", "layers x heads", "lens"])
def test_maps_are_drawn_on_what_they_are_given(what):
    drawn = {
        "map": lambda **look: recoveries(12, 12).plot(**look),
        "trace": lambda **look: plotting.rome_heatmap(np.eye(12), tokens(12), low=0.0, **look),
        "layers x heads": lambda **look: heads_of(12, 8, **look),
        "lens": lambda **look: token_maps.lens(lens(12, 12), **look),
    }[what]
    ax = plt.Figure(figsize=(6, 4), layout="constrained").subplots()
    figure = drawn(ax=ax)
    assert figure is ax.figure and ax.get_title() and not figure.get_supxlabel()
    measure(figure)
    left, right = plt.Figure(figsize=(12, 4), layout="constrained").subfigures(1, 2)
    assert drawn(fig=left) is left.figure and drawn(fig=right, caption=False) is left.figure
    assert left.axes and right.axes and not right.get_supxlabel()
    assert not drawn(caption=False).get_supxlabel()


def test_panels_do_not_fit_on_one_axes():
    with pytest.raises(InputError, match="2 panels"):
        recoveries(4, 4, components=2).plot(ax=plt.Figure().subplots())


def test_what_lies_beyond_the_colours_is_said():
    figure = recoveries(12, 12, spread=3.0).plot()
    values = recoveries(12, 12, spread=3.0).recovery
    assert f"values go down to {values.min():.3g}" in figure.get_supxlabel() or values.min() > -104
    assert f"up to {values.max():.3g}" in figure.get_supxlabel() and values.max() > 300
    assert "values go" not in recoveries(12, 12).plot().get_supxlabel()


def test_colour_bars_have_no_negative_zero():
    bar = Plain()
    bar.create_dummy_axis()
    bar.set_locs([-0.2, -0.1, -1e-18, 0.1])
    assert [bar(x).replace("\u2212", "-") for x in (-0.2, -1e-18, -0.0, 0.1)] == ["-0.2", "0.0", "0.0", "0.1"]


def test_maps_are_readable_on_dark_grounds():
    with plt.style.context("dark_background"):
        figure = recoveries(500, 12).plot()
        dark = ink(0)
    figure.draw_without_rendering()
    (ax,) = panels(figure)
    words = [figure._supxlabel, figure._suptitle, ax.title, *ax.get_yticklabels(), *ax.texts]
    assert min(np.mean(mpl.colors.to_rgb(text.get_color())) for text in words) > 0.5
    assert mpl.colors.to_hex(ax.patches[0].get_facecolor()) == dark == "#000000"
