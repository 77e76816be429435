"""Maps of heads and attention patterns, drawn as they are given."""

import numpy as np
import pytest
from drawn_figures import TOKENS, drawn, labels, panels

from mlxtrace import plotting
from mlxtrace.errors import InputError


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
