"""Maps in characters: the rows that matter and columns that fit, both said, at any size."""

import numpy as np
import pytest

from mlxtrace.results.text_maps import SHADES, across, most_rows, shaded, thinned
from mlxtrace.terminal import width


def test_small_maps_are_whole():
    lines = shaded("  heading", ["0 The", "1 Louvre*"], np.array([[0.0, 50], [100, -20]]), 100, labels=[0, 1])
    assert lines == ["  heading", "  0 The      ·▓", "  1 Louvre*  █-"]


def test_of_long_maps_the_rows_that_matter_and_what_the_others_are():
    values = np.zeros((500, 12))
    values[410:413, 3:6] = 60
    values[100, 2] = 4  # which looks white
    names = [f"{i:>3} t" for i in range(500)]
    lines = shaded("", names, values, 100, labels=range(500), keep={499})
    assert lines[1] == "  ⋮ positions 0-409 are between 0 and 4"
    assert lines[2] == "  410 t  ···▓▓▓······" and lines[5] == "  ⋮ positions 413-498 are 0"
    assert lines[6].startswith("  499 t") and lines[7] == "  (4 of 500 positions shown; to_rows() has all)"
    assert len(lines) == 8
    whole = shaded("", names, values, 100)  # rows without numbers, such as regions, are never cut
    assert len(whole) == 501 and "⋮" not in "".join(whole)


def test_of_many_gaps_all_are_said_together():
    values = np.zeros((500, 2))
    values[::10] = 50
    lines = shaded("", [str(i) for i in range(500)], values, 100, labels=range(500), most=20)
    assert len(lines) == 1 + 20 + 2
    assert lines[-2] == "  (480 of 500 positions are not shown; they are between 0 and 50)"


@pytest.mark.parametrize(("n", "step"), [(12, 1), (80, 1), (126, 2), (400, 5)])
def test_wide_maps_fit_in_a_line_and_keep_their_strongest(n, step):
    values = np.zeros((2, n))
    values[0, n - 2], values[1, n // 2] = 90, -90
    unsure = np.zeros(values.shape, bool)
    unsure[1, n // 2] = True
    lines = shaded("  h", ["a token", "巴黎是首都"], values, 100, unsure, labels=[0, 1])
    assert max(map(width, lines[1:])) <= 108 and lines[1].count("█") == 1 and lines[2].count("?") == 1
    assert lines[0] == ("  h" if step == 1 else f"  h; each shade is the strongest of {step} layers")
    assert len({width(line) for line in lines[1:]}) == 1  # names are as wide as they look


def test_thinning_keeps_no_value_where_there_is_none():
    values = np.array([[np.nan, np.nan, 1.0, -2.0, np.nan]])
    thin, at, step = thinned(values, 3)
    assert step == 2 and at.tolist() == [[0, 3, 4]]
    assert np.isnan(thin[0, [0, 2]]).all() and thin[0, 1] == -2


def test_long_names_are_cut():
    lines = shaded("", ["x" * 500, "y"], np.zeros((2, 3)), 100, labels=[0, 1])
    assert lines[1].startswith("  " + "x" * 31 + "…") and width(lines[1]) == width(lines[2]) == 2 + 32 + 2 + 3


def test_words():
    assert across("layer", list(range(80))) == "layers 0-79 across"
    assert width(across("head", list(range(0, 400, 3)))) < 60
    assert most_rows("layer", 1) > 126 and most_rows("position", 1) > most_rows("position", 3)
    assert "5, 25, 45, 65 %" in SHADES
