"""What a notebook shows: figures, tables, progress bars; by stand-ins, and (heavy) by executing real notebooks."""

import io
import sys
from types import SimpleNamespace

import pytest

from mlxtrace import notebook


@pytest.fixture
def kernel(monkeypatch):
    """A stand-in for IPython in a kernel; what was displayed is returned."""
    displayed: list = []
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(
        sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell, version_info=(9, 0))
    )
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=displayed.append))
    return displayed


def test_a_figure_is_displayed_where_a_kernel_runs(kernel):
    assert notebook.in_notebook()
    assert notebook.show("figure") == "figure" and kernel == ["figure"]


def test_elsewhere_nothing_is_displayed(kernel, monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace()))
    assert notebook.show("figure") == "figure" and not kernel  # IPython in a terminal
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not notebook.in_notebook() and notebook.show(1) == 1 and not kernel
    monkeypatch.delitem(sys.modules, "IPython")
    assert not notebook.in_notebook() and notebook.show(1) == 1 and not kernel


@pytest.mark.parametrize(("disable", "shown"), [(None, True), (False, True), (True, False)])
def test_without_widgets_a_notebook_gets_a_bar_of_text(monkeypatch, disable, shown):
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # which is no terminal
    with notebook._TextBar(total=3, unit="cell", disable=disable) as bar:
        bar.update(3)
    assert ("3/3" in sys.stdout.getvalue()) == shown


def test_elsewhere_bars_are_tqdms(capsys):
    assert not issubclass(notebook.tqdm, notebook._TextBar)
    with notebook.tqdm(total=3, disable=False) as bar:
        bar.update(3)
    out, err = capsys.readouterr()
    assert "3/3" in err and not out


def test_experiments_display_their_figure(kernel):
    from mlxtrace import InterpretableModel

    model = InterpretableModel("demo")
    prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
    result = model.activation_patching(*prompts, layers=[9], plot=True, progress=False)
    assert kernel == [result.figure]
