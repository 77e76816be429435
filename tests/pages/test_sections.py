"""The sections: the question, what is in short, directions beside each other, caveats."""

import numpy as np
from test_causal_trace_result import made as trace
from test_patching_result import make
from test_patching_set import a_set

from mlxtrace.pages.asked import asked_of
from mlxtrace.pages.reproduction import About
from mlxtrace.pages.sections import question_of, sections_of

RAW = np.random.default_rng(2).uniform(0.1, 0.9, (2, 3, 4))
DIMS = ("component", "layer", "position")


def body(*results, title=None, question=None, about=None):
    return sections_of(results, title, question, about or About()).body


def test_questions():
    assert (
        question_of(asked_of(make([0.1]))) == 'Where does demo look up " Paris" after "The Eiffel Tower in"?'
    )
    assert question_of(asked_of(a_set(n=5))).startswith(
        "Where does demo look up the answers to 5 prompts such as"
    )
    long = make([0.1], clean_text="word " * 400)
    assert len(question_of(asked_of(long))) < 140


def test_both_directions_stand_beside_each_other():
    one, other = (make(RAW, DIMS, direction=direction) for direction in ("denoise", "noise"))
    html = body(other, one)
    rows = html.split('class="side two"')[1:]
    assert len(rows) == 2 and "<h2>Where: tokens and layers</h2>" in html
    for row, name in zip(rows, ("MLP", "attention"), strict=True):
        assert 0 < row.index(f"Restoring the {name} output") < row.index(f"Corrupting the {name} output")
    assert html.count("recovery = 100") == html.count("asks whether the clean run needs it") == 1


def test_what_holds_for_several_kinds_is_told_once():
    html = body(make(RAW, DIMS), make([0.1, 0.5]), make(RAW[0], ("layer", "head"), components=["head"]))
    assert all(
        f"<h2>{heading}" in html for heading in ("Where: tokens", "Which layers", "Which attention heads")
    )
    assert html.count("recovery = 100") == html.count("asks whether the clean run needs it") == 1
    assert html.count("Source: ") == 1 and "Each cell copies what one attention head" in html
    assert "asks whether the clean run needs it" in body(make([0.1, 0.5]))


def test_the_sections_are_in_their_order():
    html = body(make(RAW, DIMS), trace(), about=About(missing=["heads: none here"]))
    names = ["In short", "The prompts", "Is the corruption any good?", "Where: causal trace", "Where: tokens"]
    places = [html.index(f"<h2>{name}") for name in [*names, "What to object", "To make it again"]]
    assert places == sorted(places) and html.count("<h1") == 1
    assert "What could not be run" in html and "heads: none here" in html


def test_a_title_stands_above_the_question():
    html = body(make([0.1, 0.5]), title="Eiffel <1>", question="Why?")
    assert "<h1>Eiffel &lt;1&gt;</h1>" in html and '<p class="lede">Why?</p>' in html
    assert "<h1>Why?</h1>" in body(make([0.1, 0.5]), question="Why?")


def test_notes_of_results_are_told_once():
    html = body(*(make([0.1, 0.5], direction=way, notes=["the <same> note"]) for way in ("denoise", "noise")))
    assert html.count("the &lt;same&gt; note") == 1


def test_maps_of_the_stream_do_not_fill_the_summary():
    stream, mlp = make(RAW[0], DIMS[1:], components=["resid_post"]), make(RAW[1], DIMS[1:])
    short = body(stream, mlp).split("<nav")[0]
    assert "layer output" not in short.lower() and "MLP output" in short
    assert "Layer output of layer" in body(stream).split("<nav")[0]
