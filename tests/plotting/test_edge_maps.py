from __future__ import annotations

import numpy as np
from edges_made_up import made_up

from mlxtrace.plotting.edge_maps import edge_map


def test_every_score_is_where_its_sender_and_receiver_are(tmp_path):
    edges = made_up()
    figure = edge_map(edges, tmp_path / "edges.svg")
    ax = figure.axes[0]
    drawn = ax.collections[0].get_array()
    np.testing.assert_allclose(drawn.filled(0).reshape(edges.scores.shape), edges.scores)
    assert (drawn.mask.reshape(edges.scores.shape) == ~edges.upstream).all()
    assert [t.get_text() for t in ax.get_yticklabels()] == edges.senders
    low, high = ax.collections[0].get_clim()
    assert low == -high and (tmp_path / "edges.svg").exists()


def test_large_maps_name_the_layers():
    ax = edge_map(made_up(size=(12, 4, 4))).axes[0]
    named = [t.get_text() for t in ax.get_xticklabels()]
    assert named == [*(str(i) for i in range(12)), "logits"] and len(ax.get_xticks()) == 13
    assert not edge_map(made_up({})).axes[0].collections[0].get_array().filled(0).any()
