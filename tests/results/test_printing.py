"""Pages, bars and the strongest rows, in characters."""

from __future__ import annotations

import numpy as np
import pytest

from mlxtrace.errors import InputError
from mlxtrace.results.printing import bars, page, top_rows


def test_a_page_has_its_notes_and_an_empty_line_before_the_body():
    assert page("Title", ["a"], ["b\x1b"], ["c"]) == "Title\n  a\n  note: b\\x1b\n\nc"
    assert page("Title", [], []) == "Title"


def test_bars_share_one_scale():
    lines = bars("layer", [2, 11], {"direct": np.array([0.5, 1.0]), "indirect": np.array([0.0, -1.0])})
    assert lines[0].split() == ["layer", "direct", "indirect"]
    assert [line.split()[0] for line in lines[1:]] == ["2", "11"] and len(
        {line.index(".") for line in lines[1:]}
    ) == 1
    assert lines[1].count("█") == 6 and lines[2].count("█") == 12 == lines[2].count("▒")
    assert bars("x", [0], {"y": np.array([0.5])}, high=1.0)[1].count("█") == 12


def test_the_strongest_come_first():
    rows = [{"x": v} for v in (0.1, 0.9, 0.5)]
    assert [row["x"] for row in top_rows(rows, "x", 2)] == [0.9, 0.5] and top_rows(rows, "x", 0) == []
    for wrong in (-1, 1.5, True, None):
        with pytest.raises(InputError, match="k is a whole number"):
            top_rows(rows, "x", wrong)
