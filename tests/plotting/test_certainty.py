"""What is uncertain, and how it is drawn: whiskers, hatching, and captions that say what these mean."""

import numpy as np
import pytest
from drawn_figures import drawn, labels, panels
from test_effects_set import effects_set
from test_noising_window_set import noising_set
from test_patching_result import make
from test_patching_set import a_set, single

from mlxtrace import plotting
from mlxtrace.plotting.certainty import uncertain
from mlxtrace.plotting.heatmaps import Map, Scale, hatched
from mlxtrace.results.patching_set import PatchingSet

NAN = np.nan


@pytest.mark.parametrize("no_effect", [0, 100])
def test_uncertain_is_what_covers_no_effect(no_effect):
    moved = np.array([5.0, 5.0, -5.0, -5.0, 0.0, 0.0, 5.0, NAN])
    halves = np.array([4.9, 5.1, 4.9, 5.1, 0.0, 1.0, NAN, NAN])
    found = uncertain(no_effect + moved, halves, no_effect)
    assert found.tolist() == [False, True, False, True, False, True, True, False]
    for unknown in (None, np.full(8, NAN)):
        assert not uncertain(moved, unknown).any()


def test_only_what_looks_like_an_effect_is_hatched():
    one = Map(np.array([[60.0, 60.0, 1.0, -20.0]]), ["a"], list("0123"), "mlp", halves=np.full((1, 4), 30.0))
    assert hatched(one, Scale(-20, 80, 0)).tolist() == [[False, False, False, True]]
    turned = Map(100 - one.values, ["a"], list("0123"), "mlp", halves=np.full((1, 4), 61.0))
    assert hatched(turned, Scale(20, 120, 100, True)).tolist() == [[True, True, False, True]]


def strokes(ax):
    """The cells `(row, column)` that have strokes."""
    found = {
        tuple(np.floor(np.mean(s, 0)).astype(int)[::-1].tolist()) for s in ax.collections[1].get_segments()
    }
    return sorted(found)


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_hatching_lies_on_the_uncertain_cells(direction):
    result = a_set(("layer", "region"), n=6, lacking=(1, 2), direction=direction)
    fig = plotting.plot(result)
    (ax,) = panels(fig)
    moved = np.abs(result.recovery - result.no_effect).T
    covers, faint = moved <= result.interval.T, moved < 0.05 * np.ptp(ax.collections[0].get_clim())
    assert strokes(ax) == [tuple(cell) for cell in np.argwhere(covers & ~faint).tolist()] and covers.any()
    np.testing.assert_allclose(drawn(ax), result.recovery.T)
    assert labels(ax.yaxis) == ["first", "middle (4 pairs)", "last"]
    assert "hatched: the 95 % interval covers no effect" in fig.get_supxlabel()
    assert "over 6 pairs (each region)" in fig.get_suptitle().replace("\n", " ")


def whisker_ends(ax):
    return np.array([segment[:, 1] for c in ax.collections for segment in c.get_segments()])


def test_whiskers_are_the_intervals():
    result = a_set(("component", "layer"))
    fig = plotting.plot(result)
    for ax, values, halves in zip(panels(fig), result.recovery, result.interval, strict=True):
        np.testing.assert_allclose(whisker_ends(ax), np.stack([values - halves, values + halves], -1))
    assert "whiskers: 95 % intervals" in fig.get_supxlabel()
    alone = plotting.plot(a_set(n=1))
    assert not panels(alone)[0].collections and "whiskers" not in alone.get_supxlabel()


def test_a_head_map_of_a_set_is_hatched_and_a_cell_without_a_value_is_grey():
    result = a_set(("layer", "head"), n=4)
    (ax,) = panels(plotting.plot(result))
    assert strokes(ax) and ax.get_ylabel() == "layer"
    rng = np.random.default_rng(4)
    parts = [single(rng, ("layer", "region"), ["first"]) for _ in range(3)]
    parts.append(single(rng, ("layer", "region"), gap=1e-9, part_of_set=True))
    (ax,) = panels(plotting.plot(PatchingSet(parts, list("abcd"))))
    assert np.ma.getmaskarray(ax.collections[0].get_array())[1:].all() or np.isnan(drawn(ax)[1:]).all()
    assert ax.get_facecolor()[0] == pytest.approx(0.85)


def test_effects_and_noising_of_sets_are_drawn():
    effects = effects_set()
    for ax, values, halves in zip(
        plotting.effects(effects).axes,
        (effects.direct_change, effects.indirect),
        (effects.direct_change_interval, effects.indirect_interval),
        strict=True,
    ):
        np.testing.assert_allclose(whisker_ends(ax), np.stack([values - halves, values + halves], -1))
    maps = effects_set(regions=True)
    fig = plotting.effects(maps)
    first, second = panels(fig)
    np.testing.assert_allclose(drawn(first), maps.direct_change.T)
    np.testing.assert_allclose(drawn(second), maps.indirect.T)
    assert labels(first.yaxis)[0] == "IO" and "over 5 pairs" in fig.get_suptitle()
    noising = noising_set()
    (ax,) = plotting.noising(noising).axes
    ends = np.stack([noising.scores - noising.interval, noising.scores + noising.interval], -1)
    np.testing.assert_allclose(whisker_ends(ax), ends)


def test_positions_of_a_set_are_numbered_since_tokens_differ():
    rng = np.random.default_rng(5)
    texts = (["The", " cat", " sat", " in"], ["The", " dog", " sat", " in"])
    singles = [
        make(
            rng.uniform(0, 1, (3, 4)), ("layer", "position"), tokens=t, corrupted_tokens=t, subject_range=None
        )
        for t in texts
    ]
    (ax,) = panels(plotting.plot(PatchingSet(singles, ["cat", "dog"])))
    assert labels(ax.yaxis) == ["0 The", "1 …", "2 ·sat", "3 ·in"]


def test_a_pair_whose_gap_means_nothing_can_still_be_looked_at():
    rng = np.random.default_rng(6)
    for dims in (("layer",), ("layer", "region")):
        one = single(rng, dims, gap=1e-9, part_of_set=True)
        assert repr(one) and one._repr_html_() and plotting.plot(one)
