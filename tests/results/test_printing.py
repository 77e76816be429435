"""What results share when they print: pages, bars, the strongest rows."""

import numpy as np
import pytest

from mlxtrace.errors import InputError
from mlxtrace.results.printing import bars, page, top_rows


def test_a_page_has_its_notes_before_what_must_be_read_with_them():
    assert page("Title", ["one: 1"], ["mind"], ["  table"]) == "Title\n  one: 1\n  note: mind\n\n  table"
    assert page("Title", [], []) == "Title"


def test_bars_share_a_scale_and_negative_ones_go_left():
    lines = bars("layer", [3, 10], {"direct": np.array([1.0, -1.0]), "indirect": np.array([0.5, 0.0])})
    assert lines[0].split() == ["layer", "direct", "indirect"]
    up, down = lines[1:]
    assert up.startswith("      3    1.0000 ") and down.startswith("     10   -1.0000 ")
    assert up.count("█") == 12 + 6 and down.count("▒") == 12 and "█" not in down
    assert up.index("█") == down.index("▒") + 12  # both start at the same zero


def test_a_scale_may_reach_further_than_the_values():
    half = bars("centre", [0], {"score": np.array([0.5])}, high=1.0)[1]
    assert half.count("█") == 12
    assert bars("centre", [0], {"score": np.array([0.5])})[1].count("█") == 24


def test_the_strongest_rows_come_first():
    rows = [{"score": x} for x in (0.1, 0.9, -2.0, 0.5)]
    assert [r["score"] for r in top_rows(rows, "score", 2)] == [0.9, 0.5]
    assert top_rows(rows, "score", 0) == [] and len(top_rows(rows, "score", 99)) == 4
    for k in (-1, 1.5, True, None):
        with pytest.raises(InputError, match="k is a whole number"):
            top_rows(rows, "score", k)
