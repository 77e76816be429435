"""Circuits to look around in: nodes by layer, edges with their ends and scores, curves with their intervals."""

import numpy as np
import pytest
from edges_made_up import made_up
from test_circuit_curve import curve

pytest.importorskip("plotly")
SCORES = {("embed", "a1.h2.q"): 2.0, ("a1.h2", "logits"): -1.0, ("embed", "m0"): 0.5, ("m0", "logits"): 0.25}


def some(n=4, **options):
    return made_up(SCORES).circuit(n, **options)


def test_every_edge_says_its_ends_and_score():
    figure = some().explore()
    handles = figure.data[-1]
    said = dict.fromkeys(handles.hovertext)
    assert [text.split("</b>")[0][3:] for text in said] == [
        "embed → a1.h2.q",
        "a1.h2 → logits",
        "embed → m0",
        "m0 → logits",
    ]
    assert "score <b>1</b> (logit_diff): works against the clean answer" in list(said)[1]
    assert "score <b>2</b> (logit_diff): helps" in next(iter(said))
    assert ["helps" in text for text in said] == [True, False, True, True]
    assert len(handles.x) == len(handles.y) == len(handles.hovertext) == 4 * 4


def test_nodes_stand_by_layer():
    figure = some().explore()
    up = {note.text: note.y for note in figure.layout.annotations}
    assert up["embed"] < up["m0"] < up["a1.h2"] < up["logits"]
    (embed,) = (note for note in figure.layout.annotations if note.text == "embed")
    assert embed.hovertext == "<b>embed</b><br>2 out, the strongest to a1.h2 2"


def test_lines_run_between_the_nodes_and_are_wide_where_strong():
    figure = some().explore()
    places = {note.text: (note.x, note.y) for note in figure.layout.annotations}
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    widest = max(lines, key=lambda line: line.line.width)
    assert (widest.x[0], widest.y[0]) == pytest.approx(places["embed"])
    assert (widest.x[12], widest.y[12]) == pytest.approx(places["a1.h2"])
    (hurts,) = (line for line in lines if line.line.color == "#b2182b")
    assert (hurts.x[0], hurts.y[0]) == pytest.approx(places["a1.h2"])
    assert hurts.line.width < widest.line.width


def test_what_is_not_drawn_is_said():
    figure = some().explore(most=2)
    assert len(set(figure.data[-1].hovertext)) == 2
    assert "the 2 strongest of 4 are drawn" in figure.layout.title.subtitle.text.replace("<br>   ", " ")
    assert "are drawn" not in some().explore(most=None).layout.title.subtitle.text
    assert some(0).explore().layout.height > 0


def test_curves_have_their_intervals_and_random_circuits():
    found = curve([[0.0, 0.1], [1.0, 1.2], [2.0, 2.0]], random=np.array([[0.0, 0.1], [0.2, 0.4], [1.0, 1.0]]))
    figure = found.explore()
    random, measured = figure.data
    np.testing.assert_allclose(measured.y, found.faithfulness)
    np.testing.assert_allclose(10 ** np.asarray(measured.x) - 1, found.asked, atol=1e-9)
    np.testing.assert_allclose(measured.error_y.array, np.nan_to_num(found.interval))
    np.testing.assert_allclose(random.y, [0.05, 0.3, 1.0])
    assert "5 edges, 4 of them lead somewhere<br>faithfulness <b>0.550</b>" in measured.hovertext[1]
    assert (
        "2 random circuits of 5 edges<br>faithfulness <b>0.300</b><br>0.200 to 0.400" in random.hovertext[1]
    )
    texts = figure.layout.xaxis.ticktext
    np.testing.assert_allclose(
        10 ** np.array(figure.layout.xaxis.tickvals) - 1, [float(t) for t in texts], atol=1e-9
    )
    assert len(curve([[0.0], [1.0], [2.0]]).explore().data) == 1
