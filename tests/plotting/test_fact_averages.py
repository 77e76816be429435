"""Figures of averages over facts: maps and lines with their bands, and no line where there is no token."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from drawn_figures import drawn, labels, panels

from mlxtrace import plotting
from mlxtrace.results.average_trace import ROLES


def average(kinds=(None, "mlp")):
    effect, interval = np.random.default_rng(0).uniform(0, 0.5, (2, len(kinds), 6, 4))
    effect[:, 1] = interval[:, 1] = np.nan
    return SimpleNamespace(
        indirect_effect=effect,
        interval=interval,
        kinds=list(kinds),
        counts=[3, 0, 3, 3, 2, 3],
        roles=ROLES,
        facts=3,
        window=2,
        total_effect=0.5,
        total_interval=0.1,
        high_score=0.7,
        low_score=0.2,
    )


def test_maps_leave_out_roles_without_a_token_and_share_a_scale():
    result = average()
    axes = panels(plotting.average_maps(result))
    there = [0, 2, 3, 4, 5]
    for ax, values in zip(axes, result.indirect_effect, strict=True):
        np.testing.assert_array_equal(drawn(ax), values[there])
    assert labels(axes[0].yaxis) == [ROLES[i] for i in there]
    assert [ax.get_title() for ax in axes] == ["Layer output", "MLP"]
    assert [ax.get_xlabel() for ax in axes] == ["one restored layer", "centre of 2 restored layers"] or (
        axes[0].get_xlabel() == "single restored layer"
    )
    assert len({ax.collections[0].get_clim() for ax in axes}) == 1


def test_lines_have_their_bands():
    result = average()
    fig = plotting.average_lines(result)
    axes = panels(fig)
    for k, ax in enumerate(axes):
        lines = [line for line in ax.lines if line.get_label() in ROLES]
        assert [line.get_label() for line in lines] == [ROLES[i] for i in (0, 2, 3, 4, 5)]
        np.testing.assert_array_equal(lines[1].get_ydata(), result.indirect_effect[k, 2])
        band = ax.collections[1].get_paths()[0].vertices[:, 1]
        assert band.max() == (result.indirect_effect + result.interval)[k, 2].max()
    assert "clean 0.700, corrupted 0.200" in fig.get_supxlabel().replace("\u00a0", " ").replace("\n", " ")


def test_of_a_single_fact_there_are_no_bands():
    result = average()
    result.interval[:] = np.nan
    assert not panels(plotting.average_lines(result))[0].collections
