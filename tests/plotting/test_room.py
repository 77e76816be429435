"""One rule of sizes: every figure fits a page, and labels are as many as there is room for."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from mlxtrace.plotting import room
from mlxtrace.plotting.glyphs import em


@pytest.mark.parametrize("maps", [1, 2, 3, 4, 7, 16])
def test_all_sizes_fit_a_page(maps):
    for rows, columns in itertools.product((1, 2, 12, 60, 500, 2000), (2, 12, 126, 500, 2000)):
        size = room.size_of(maps, rows, columns, beside=2.0, below=1.0, bars=maps)
        assert size.figure[0] <= room.WIDEST + 1e-9 and size.figure[1] <= room.TALLEST + 1e-9
        assert size.rows * size.columns >= maps > size.columns * (size.rows - 1)
        assert size.width > 0.35 and size.height > 0.35
        assert room.SMALLEST <= size.letters(rows) <= room.USUAL


def test_usual_maps_have_cells_of_a_fifth_of_an_inch():
    size = room.size_of(1, 12, 24, beside=1.0, below=0.4)
    assert (size.rows, size.columns) == (1, 1)
    assert size.width == pytest.approx(4.8) and size.height == pytest.approx(2.4)
    assert room.size_of(8, 12, 12, beside=1.0, below=0.4)[:2] == (2, 4)


def test_pooled_cells_keep_the_strongest():
    values = np.zeros((5, 7))
    values[4, 6], values[0, 1], values[1, 0] = -3, 1, 2
    found = room.pooled(values, (2, 3), 0.0)
    assert found.shape == (3, 3) and found[2, 2] == -3 and found[0, 0] == 2 and np.count_nonzero(found) == 2
    assert room.pooled(np.full((2, 2), np.nan), (2, 2), 0.0).shape == (1, 1)
    assert room.pooled(np.array([[100.0, 90.0]]), (1, 2), 100.0) == 90


def ticked(n, width=4.0, label="token {}", upright=False, first=(), axis="yaxis", height=3.0):
    fig = Figure(figsize=(width, height))
    ax = fig.subplots()
    ax.set(xlim=(0, n), ylim=(0, n))
    labels = [label.format(i) for i in range(n)]
    room.tick(getattr(ax, axis), np.arange(n) + 0.5, labels, first=first, size=8, upright=upright)
    fig.draw_without_rendering()
    shown = [t for t in getattr(ax, axis).get_ticklabels() if t.get_text()]
    boxes = [t.get_window_extent() for t in shown]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    return [t.get_text() for t in shown]


def test_labels_are_thinned_by_the_room_that_there_is():
    assert len(ticked(12)) == 12
    assert ticked(100)[:2] == ["token 0", "token 10"]
    assert len(ticked(100, height=14.0)) == 50
    assert len(ticked(30, axis="xaxis")) < 10 < len(ticked(30, axis="xaxis", upright=True, width=6))
    assert len(ticked(2000, label="{}", axis="xaxis")) < 20


def test_some_labels_are_kept_rather_than_others():
    shown = ticked(500, first=[417, 418, 499])
    assert {"token 417", "token 499"} <= set(shown) and "token 418" not in shown


def test_labels_are_thinned_again_when_the_figure_changes():
    fig = Figure(figsize=(4, 1))
    ax = fig.subplots()
    ax.set(ylim=(0, 30))
    room.tick(ax.yaxis, np.arange(30) + 0.5, [str(i) for i in range(30)])
    few = len(ax.get_yticks())
    fig.set_size_inches(4, 9)
    assert few < 8 and len(ax.get_yticks()) == 30


def test_texts_are_broken_where_they_fit_and_cut_where_they_do_not():
    lines = room.fitted("Restoring the MLP output " * 8, 3.0, 10, 3, bold=True)
    assert len(lines) == 3 and " … " in " ".join(lines)
    assert all(em(line, bold=True) * 10 / 72 <= 3.0 for line in lines)
    lines = room.fitted("clean: " + "x" * 400, 3.0, 8, 20, indent="    ")
    assert "".join(line.strip() for line in lines) == "clean:" + "x" * 400
    assert all(em(line) * 8 / 72 <= 3.0 for line in lines) and lines[1].startswith("    ")
    assert room.fitted("", 3.0, 8, 2) == [""]
    two = room.fitted("Impact of restoring the MLP after corrupted input", 3.0, 10.5, 3)
    assert len(two) == 2 and len(two[1]) > 15  # no line of one word


def test_lines_of_one_length_have_no_new_spaces_in_long_words():
    name = "mlx-community/a-model-with-a-very-long-name-4bit"
    lines = room.fitted(f"{name} of facts", 1.8, 8, 3)
    assert len(lines) > 1 and name in "".join(lines)
