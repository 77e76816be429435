"""Words and bars in text."""

from __future__ import annotations

import numpy as np
from test_patching_result import make

from mlxtrace.plotting import labels
from mlxtrace.plotting.labels import describe, text_bar, text_map
from mlxtrace.results.patching_result import PatchingResult


def test_text_bar_is_anchored_at_zero():
    assert text_bar(10, 0, 10, 8) == "█" * 8 and text_bar(0, -1, 1, 8) == " " * 4
    assert text_bar(-5, -5, 5, 8) == "▒" * 4 and text_bar(5, -5, 5, 8) == "    ████"


def test_positions_are_named_one_by_one(tmp_path):
    for positions, words in (
        ([1, 2], "position 1, 2"),
        (range(1, 3), "position 1, 2"),
        (np.int64(3), "position 3"),
    ):
        result = make([0.1, 0.5], settings={"positions": positions})
        assert f"({words})" in describe(result)
        assert describe(PatchingResult.load(result.save(tmp_path / "x.npz"))) == describe(result)


def test_a_map_in_characters_has_a_shade_for_each_fifth():
    assert text_map(["a", "bb"], np.array([[0, 5.0, 5.01, 30], [50, 70, -4, -6]]), 100) == [
        "  a   ··░▒",
        "  bb  ▓█·-",
    ]
    assert text_map(["a"], np.zeros((1, 2)), 0.0) == ["  a  ··"]


def test_several_answers_are_quoted_each_by_itself():
    assert labels.quoted(labels.one_or_another([" Paris", " Rome"])) == '" Paris" or " Rome"'
    assert labels.quoted(labels.one_or_another([" Paris"])) == '" Paris"'
    assert labels.quoted('"') == '"\\""' and labels.quoted("") == '""' and labels.quoted("a|b") == '"a|b"'
