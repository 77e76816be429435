"""Every result with a figure has one to look around in."""

import inspect

import pytest

import mlxtrace
from mlxtrace import interactive
from mlxtrace.errors import InputError, UnsupportedError
from mlxtrace.results import explored
from mlxtrace.results.explored import Explored, figure_of

KINDS = [kind for kind in vars(mlxtrace).values() if inspect.isclass(kind)]


def test_what_plots_can_be_explored():
    for kind in KINDS:
        if hasattr(kind, "plot"):
            assert issubclass(kind, Explored) and figure_of(kind) in interactive.__all__, kind


def test_what_has_no_figure_says_so():
    class Plain(Explored):
        pass

    with pytest.raises(UnsupportedError, match="Plain has no figure"):
        Plain().explore()


def test_unknown_options_are_refused_with_those_there_are(monkeypatch):
    def drawn(result, path=None, *, most=60):
        return path, most

    class Some(Explored):
        pass

    monkeypatch.setitem(explored.FIGURES, "Some", "drawn")
    monkeypatch.setattr(interactive, "drawn", drawn, raising=False)
    assert Some().explore("x.html", most=3) == ("x.html", 3)
    with pytest.raises(InputError, match=r"explore\(\) of a Some takes most=; it has no rows="):
        Some().explore(rows="all")
