"""Figures of causal traces: the numbers, labels and colours that are drawn are the result's."""

import numpy as np
import pytest
from drawn_figures import TOKENS, drawn, labels, panels

from mlxtrace import plotting
from mlxtrace.errors import InputError


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
