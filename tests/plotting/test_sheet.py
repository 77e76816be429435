"""What a plot is drawn on: a figure of its own, the user's figure, a part of it, or the user's axes."""

import pytest
from matplotlib.figure import Figure

from mlxtrace.errors import InputError
from mlxtrace.plotting.sheet import Sheet, Shown


def test_a_figure_of_its_own_is_shown_by_notebooks():
    sheet = Sheet()
    assert sheet.open(3.0, 2.0) is sheet.whole
    sheet.axes()[0, 0].plot([0, 1])
    assert sheet.finish()._repr_png_().startswith(b"\x89PNG")
    assert sheet.inches == (3.0, 2.0)


def test_the_users_figure_keeps_its_size_and_gets_the_title(tmp_path):
    fig = Figure(figsize=(7, 4))
    sheet = Sheet(tmp_path / "a.png", fig=fig)
    assert sheet.open(3.0, 2.0) is fig and not isinstance(fig, Shown)
    assert sheet.axes(2, 2).shape == (2, 2)
    sheet.headline("title", ["caption"])
    assert sheet.finish() is fig and (tmp_path / "a.png").exists()
    assert fig.get_size_inches().tolist() == [7, 4] and sheet.inches == (7, 4)
    assert fig.get_suptitle() == "title" and fig.get_supxlabel() == "caption"


def test_a_subfigure_is_drawn_on_and_the_whole_is_returned():
    fig = Figure(figsize=(8, 4), layout="constrained")
    left, right = fig.subfigures(1, 2)
    inner = right.subfigures(2, 1)[0]
    for part in (left, inner):
        sheet = Sheet(fig=part, caption=False)
        assert sheet.open(1, 1) is part
        sheet.axes()
        sheet.headline("title", ["caption"])
        assert sheet.finish() is fig
        assert part.get_suptitle() == "title" and not part.get_supxlabel()
    assert left.axes and inner.axes and sheet.inches == (4, 2)


def test_axes_of_the_users_take_one_panel():
    fig = Figure()
    ax = fig.subplots()
    sheet = Sheet(ax=ax)
    sheet.open(1, 1)
    assert sheet.axes()[0, 0] is ax
    sheet.headline("title", ["caption"])
    assert ax.get_title() == "title" and not fig.get_supxlabel() and sheet.finish() is fig
    with pytest.raises(InputError, match="6 panels"):
        sheet.axes(2, 3)


@pytest.mark.parametrize(
    ("look", "said"),
    [
        ({"ax": Figure()}, "no matplotlib Axes"),
        ({"fig": Figure().subplots()}, "no matplotlib Figure"),
        ({"fig": Figure().subplots().figure}, "axes already"),
        ({"ax": Figure().subplots(), "fig": Figure()}, "one of them"),
        ({"caption": "A caption"}, "neither True nor False"),
    ],
)
def test_what_cannot_be_drawn_on_is_refused(look, said):
    with pytest.raises(InputError, match=said):
        Sheet(**look)
    with pytest.raises(InputError, match="cannot write"):
        Sheet("a.gif")


def test_what_plots_do_not_take_is_said():
    with pytest.raises(InputError, match=r"not figsize=, title=: sizes"):
        Sheet(figsize=(3, 3), title="x")
