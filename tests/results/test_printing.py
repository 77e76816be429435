"""What results share when they print: pages, bars, the strongest rows."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

import mlxtrace
from mlxtrace.errors import InputError
from mlxtrace.results.printing import bars, page, top_rows


def test_a_page_has_its_notes_before_what_must_be_read_with_them():
    assert page("Title", ["one: 1"], ["mind"], ["  table"]) == "Title\n  one: 1\n  note: mind\n\n  table"
    assert page("Title", [], []) == "Title"


def test_bars_share_a_scale_and_negative_ones_go_left():
    lines = bars("layer", [3, 10], {"direct": np.array([1.0, -1.0]), "indirect": np.array([0.5, 0.0])})
    assert lines[0] == "  bars: -1.0000 to 1.0000, the same in every column, ▒ below 0"
    assert lines[1].split() == ["layer", "direct", "indirect"]
    up, down = lines[2:]
    assert up.startswith("      3    1.0000 ") and down.startswith("     10   -1.0000 ")
    assert up.count("█") == 12 + 6 and down.count("▒") == 12 and "█" not in down
    assert up.index("█") == down.index("▒") + 12  # both start at the same zero


def test_a_scale_may_reach_further_than_the_values():
    half = bars("centre", [0], {"score": np.array([0.5])}, high=1.0)[2]
    assert half.count("█") == 12
    said, _, whole = bars("centre", [0], {"score": np.array([0.5])})
    assert whole.count("█") == 24 and said == "  bars: 0.0000 to 0.5000"


def test_nothing_is_no_bar_and_never_less_than_nothing():
    columns = {"mlp": np.array([-1e-9, 1e-7]), "attn": np.array([0.0, 0.04])}
    said, _, *lines = bars("layer", [0, 1], columns, digits=1)
    assert said == "  bars: 0.0 to 10.0, the same in every column" and not any(
        c in line for line in lines for c in "█▒-"
    )
    (small,) = bars("layer", [0], {"attn": np.array([5.0])}, digits=1)[2:]
    assert small.count("█") == 12  # of a scale to 10 percent


def test_bars_of_many_columns_and_long_labels_fit_in_a_line():
    columns = {f"part {i}": np.array([50.0, -20.0]) for i in range(5)}
    lines = bars("edge", ["a31.h12 -> a79.h63.q", "m3 -> logits"], columns, digits=1)
    assert max(map(len, lines)) <= 112
    assert lines[2].index("50.0") == lines[3].index("-20.0") + 1
    noised = bars(
        "layer",
        [0],
        {"mlp": np.array([-60.0])},
        digits=1,
        numbers={"mlp": np.array([40.0])},
        of=" of 100 less",
    )
    assert "bars of 100 less: -60.0" in noised[0] and "40.0" in noised[2] and noised[2].count("▒") == 24


def test_a_long_prompt_is_cut_in_the_middle_and_notes_are_not():
    lines = page("Title", ["prompt: " + "a" * 3000 + ' → " Paris"'], ["n" * 900]).splitlines()
    assert "(2,719 characters)" in lines[1] and lines[1].endswith('→ " Paris"') and len(lines[1]) < 340
    assert len(lines[2]) > 900


def test_the_strongest_rows_come_first():
    rows = [{"score": x} for x in (0.1, 0.9, -2.0, 0.5)]
    assert [r["score"] for r in top_rows(rows, "score", 2)] == [0.9, 0.5]
    assert top_rows(rows, "score", 0) == [] and len(top_rows(rows, "score", 99)) == 4
    for k in (-1, 1.5, True, None):
        with pytest.raises(InputError, match="k is a whole number"):
            top_rows(rows, "score", k)


def test_no_number_is_printed_as_less_than_nothing():
    """`z` in a format makes -0.0 a 0.0; every number that a result prints has it."""
    folder = Path(mlxtrace.__file__).parent / "results"
    wrong = []
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            spec = ast.unparse(node.format_spec) if getattr(node, "format_spec", None) else ""
            if re.search(r"[feg]'$", spec) and "z" not in spec:
                wrong.append((path.name, ast.unparse(node)))
    assert not wrong and f"{-0.04:z.1f}" == "0.0"
