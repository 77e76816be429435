"""What no font has is drawn as its code and said; right-to-left words stand in the order of the line."""

import matplotlib as mpl
import pytest

from mlxtrace.plotting import glyphs


@pytest.fixture
def without_cjk(monkeypatch):
    """As on a machine whose fonts have none of these, whatever this one has."""
    has = glyphs.lacks
    monkeypatch.setattr(glyphs, "lacks", lambda c, fonts: c >= "\u2e80" or has(c, fonts))


def test_what_the_fonts_have_is_as_it_is():
    for text in ("plain", "·Eiffel → ·Colos*", "é↵⇥…", "ירושלים", "العاصمة", "⋮ 0-411", "→\nnew line"):
        assert glyphs.drawable(text) == text


def test_what_they_lack_is_its_code(without_cjk):
    assert glyphs.drawable("·東京*") == "·U+6771 U+4EAC*"
    assert glyphs.drawable("日本語の首都は x") == "U+65E5 U+672C …(+5) x"
    assert glyphs.drawable("👩‍👧 hi") == "U+1F469 U+1F467 hi"  # without the joiner between them


def test_it_is_said_once_with_an_example(without_cjk):
    texts = [glyphs.drawable(x) for x in ("東", "東", "京", "in")]
    assert glyphs.notes(texts) == [
        "2 texts have characters that no installed font can draw: their codes stand there, as U+4EAC"
    ]
    assert glyphs.notes(["in", "U+0041"]) == []  # A can be drawn: the text itself says so


def test_letters_are_measured():
    assert glyphs.em("mm") == pytest.approx(2 * glyphs.em("m")) and glyphs.em("i") < glyphs.em("m") / 2
    assert glyphs.em("one\nlonger") == glyphs.em("longer") < glyphs.em("longer", bold=True)


def test_measured_widths_are_those_drawn():
    from matplotlib.figure import Figure

    text = "Restoring the MLP output, ·Eiffel → ·Colos* WWW iii 0.123"
    fig = Figure()
    with mpl.rc_context({"font.family": glyphs.families()}):
        box = fig.text(0, 0, text, fontsize=10).get_window_extent()
    assert glyphs.em(text) * 10 * fig.dpi / 72 == pytest.approx(box.width, rel=0.03)


def test_right_to_left_words_stay_in_their_places(monkeypatch):
    monkeypatch.setattr(glyphs, "TURNS", True)
    assert glyphs.ordered("clean → corrupted") == "clean → corrupted"
    m = glyphs.MARK
    assert glyphs.ordered("ירושלים → תל") == f"{m}ירושלים{m} → {m}תל"
    assert glyphs.ordered('"תל" 0.98, x') == f'{m}"תל"{m} 0.98, x'
    assert glyphs.notes(["תל"]) == []
    monkeypatch.setattr(glyphs, "TURNS", False)
    assert glyphs.ordered("ירושלים → תל") == "ירושלים → תל"
    (said,) = glyphs.notes(["תל"])
    assert "right-to-left" in said


def test_a_font_that_lacks_marks_has_one_that_has_them(monkeypatch):
    with mpl.rc_context({"font.family": ["DejaVu Math TeX Gyre"]}):
        assert glyphs.families()[0] == "DejaVu Math TeX Gyre" and glyphs.families().count("DejaVu Sans") == 1
        assert glyphs.drawable("·in → ⋮↵") == "·in → ⋮↵"
    with mpl.rc_context({"font.family": ["no such font"]}):
        assert glyphs.drawable("·in") == "·in" and glyphs.em("·in") > 1
