"""Figures of differences: what is drawn is the difference, on a scale that is white at none."""

import numpy as np
import pytest
from drawn_figures import drawn, labels, panels
from test_certainty import strokes, whisker_ends
from test_patching_difference import difference

from mlxtrace.errors import InputError
from mlxtrace.plotting import subtraction


def test_bars_are_the_differences_with_their_whiskers(tmp_path):
    found = difference(("component", "layer"))
    fig = subtraction.difference(found, tmp_path / "difference.pdf")
    for ax, values, halves in zip(panels(fig), found.recovery, found.interval, strict=True):
        np.testing.assert_allclose([bar.get_height() for bar in ax.patches], values)
        np.testing.assert_allclose(whisker_ends(ax), np.stack([values - halves, values + halves], -1))
    assert fig.get_suptitle().replace("\n", " ").startswith("demo less other: Restoring the MLP output")


@pytest.mark.parametrize("dims", [("layer", "region"), ("layer", "head")])
def test_maps_are_white_at_no_difference_and_hatched_where_it_is_uncertain(dims):
    found = difference(dims)
    (ax,) = panels(fig := found.plot())
    values, halves = (x if dims[1] == "head" else x.T for x in (found.recovery, found.interval))
    np.testing.assert_allclose(drawn(ax), values)
    low, high = ax.collections[0].get_clim()
    assert low == -high == -np.abs(values).max()
    middle = ax.collections[0].cmap(0.5)
    assert min(middle[:3]) > 0.98
    unsure = (np.abs(values) <= halves) & (np.abs(values) > 0.05 * (high - low))
    assert strokes(ax) == [tuple(cell) for cell in np.argwhere(unsure).tolist()]
    assert "covers no difference" in fig.get_supxlabel()
    assert labels(ax.yaxis)[0] == ("first" if dims[1] == "region" else "0")


def test_an_unknown_metric_is_refused():
    with pytest.raises(InputError, match="closest"):
        difference().plot(metric="probs")
