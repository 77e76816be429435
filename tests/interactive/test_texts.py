"""Texts above and in interactive figures: what plotly would interpret is drawn as it is, and long ones are cut."""

import pytest

from mlxtrace.interactive.texts import cut, prompts, safe, token, wrapped


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("<b>x</b>", "&lt;b&gt;x&lt;/b&gt;"),
        ("&amp; <br>", "&amp;amp; &lt;br&gt;"),
        ("$x$", "&#36;x&#36;"),
        ("%{y} 5%", "&#37;{y} 5%"),
        ("東京 🙂", "東京 🙂"),
    ],
)
def test_nothing_is_interpreted(text, drawn):
    assert safe(text) == drawn


def test_tokens_show_their_spaces():
    assert token(" a\n\t<") == "·a↵⇥&lt;"
    assert token("x" * 100) == "x" * 12 + "…" + "x" * 11


def test_the_middle_is_left_out():
    assert cut("abcdefghij", 10) == "abcdefghij"
    assert cut("abcdefghijk", 10) == "abcde…hijk" and len(cut("x" * 99, 10)) == 10


def test_captions_break_and_long_ones_are_cut():
    lines = wrapped(["short", "word " * 500 + "end"], 40)
    assert lines[0] == "short" and len(lines) <= 17 and lines[-1].endswith("end")
    (line,) = prompts([("clean", "word " * 500 + '→ " Paris" 0.9')])
    assert (
        line.startswith("clean: word") and line.endswith('→ " Paris" 0.9') and "…" in line and len(line) < 220
    )
    assert wrapped(["a <b>\nline"]) == ["a &lt;b&gt; line"] and wrapped([]) == []
