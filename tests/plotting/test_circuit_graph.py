from __future__ import annotations

import pytest
from edges_made_up import made_up

from mlxtrace.errors import InputError
from mlxtrace.plotting.circuit_graph import circuit_graph
from mlxtrace.plotting.colours import HELPS, HURTS

VALUES = {("embed", "a0.h1.q"): 1.0, ("a0.h1", "m0"): -2.0, ("m0", "a1.h0.k"): 0.5, ("a1.h1", "logits"): 3.0}


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_nodes_stand_in_the_order_of_the_stream():
    figure = circuit_graph(made_up(VALUES).circuit(4))
    ax = figure.axes[0]
    up = {t.get_text(): t.get_position()[1] for t in ax.texts if len(t.get_text()) > 1}
    assert list(sorted(up, key=up.get)) == ["embed", "a0.h1", "m0", "a1.h1", "logits"]
    assert set(texts(figure)) == {*up, "q", "k"}  # key head 0 goes into heads 0 and 1, of which 1 is read
    boxes = [
        patch.get_bbox()
        for patch in ax.patches
        if hasattr(patch, "get_bbox") and hasattr(patch, "get_boxstyle")
    ]
    assert len(boxes) == 5
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def colours(figure):
    from matplotlib.colors import to_hex

    return [to_hex(p.get_edgecolor()) for p in figure.axes[0].patches if hasattr(p, "get_arrowstyle")]


def test_colour_is_whether_an_edge_helps():
    assert sorted(colours(circuit_graph(made_up(VALUES).circuit(4)))) == sorted([HELPS] * 3 + [HURTS])
    noise = circuit_graph(made_up(VALUES, direction="noise").circuit(4))
    assert sorted(colours(noise)) == sorted([HURTS] * 3 + [HELPS])


def test_only_the_strongest_are_drawn_and_how_many_are_not_is_said():
    figure = circuit_graph(made_up(size=(2, 4, 4)).circuit(60), most=10)
    said = figure._supxlabel.get_text().replace("\n", " ")
    assert len(colours(figure)) == 10 and "10 strongest of" in said and "exact" in said
    assert "approximate" in circuit_graph(made_up(method="eap").circuit(60))._supxlabel.get_text()


def test_an_empty_circuit_has_two_nodes_and_paths_are_checked(tmp_path):
    assert texts(circuit_graph(made_up().circuit(0))) == ["embed", "logits"]
    with pytest.raises(InputError, match=r"\.png"):
        circuit_graph(made_up().circuit(5), tmp_path / "c.txt")


@pytest.mark.parametrize(
    "size,edges", [((2, 4, 2), 3), ((12, 12, 12), 60), ((80, 4, 4), 500), ((2, 64, 8), 200)]
)
def test_nodes_are_apart_at_any_size_and_what_does_not_fit_is_said(size, edges):
    figure = circuit_graph(made_up(size=size).circuit(edges, prune=False), most=edges)
    ax = figure.axes[0]
    nodes = [p.get_bbox() for p in ax.patches if hasattr(p, "get_boxstyle")]
    assert not any(a.overlaps(b) for i, a in enumerate(nodes) for b in nodes[:i])
    assert (
        max(figure.get_size_inches()) <= 14
        and min(t.get_fontsize() for t in ax.texts if "." in t.get_text()) > 5
    )
    drawn, said = len(colours(figure)), figure._supxlabel.get_text().replace("\n", " ").replace("    ", "")
    assert drawn >= min(edges, 20) and (("strongest of" in said) == (edges == 500))
