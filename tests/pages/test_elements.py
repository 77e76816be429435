"""HTML: what is not a piece of it is text, whatever it holds."""

from mlxtrace.pages.elements import Html, el, joined, prose, text

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&"


def test_texts_and_attributes_cannot_break_out():
    made = el("p", HOSTILE, title=HOSTILE)
    assert "<img" not in made and "</script" not in made and made.count("<") == 2
    assert made.startswith('<p title="&lt;/script&gt;') and "&quot;" in made and "&#x27;" in made
    assert prose(f'the answer "{HOSTILE[8:12]}" of 5 %').count("<") == 2


def test_pieces_stay_and_everything_else_is_text():
    assert joined([Html("<b>"), "<b>", 5, None]) == "<b>&lt;b&gt;5"
    assert el("td", 0, class_="number", hidden=True, id=None) == '<td class="number" hidden>0</td>'
    assert el("meta", http_equiv="x") == '<meta http-equiv="x">'


def test_control_characters_are_written_out():
    assert text("\u202eab\x1b[2J") == "\\u202eab\\x1b[2J"


def test_quotations_are_not_broken_at_the_end_of_a_line():
    assert prose('after " Paris"') == 'after <span class="whole">&quot; Paris&quot;</span>'
    assert "whole" not in prose(f'"{"x" * 60}"') and "5\u00a0%" in prose("5 % of it")
