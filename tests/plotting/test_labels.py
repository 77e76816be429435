"""Words and bars in text."""

from __future__ import annotations

from mlxtrace.plotting.labels import text_bar


def test_text_bar_is_anchored_at_zero():
    assert text_bar(10, 0, 10, 8) == "█" * 8 and text_bar(0, -1, 1, 8) == " " * 4
    assert text_bar(-5, -5, 5, 8) == "▒" * 4 and text_bar(5, -5, 5, 8) == "    ████"
