"""What a notebook shows: figures, tables, progress bars; by stand-ins, and (heavy) by executing real notebooks."""

import importlib.util
import io
import sys
from pathlib import Path
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


# ---- real notebooks (CI runs this file by name)

ROOT = Path(__file__).parent.parent
FIRST = """
from mlxtrace import InterpretableModel
model = InterpretableModel("demo")
prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
"""
LONG = f"""
import sys
from pathlib import Path
sys.path[:0] = [{str(ROOT / "tests")!r}, {str(ROOT / "tests" / "results")!r}]
from every_result import Made
every = Made(500, 80, 64).every()
"""


def executed(*cells, monkeypatch):
    """The outputs of the cells of a notebook in a fresh kernel, cell by cell."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [cell.outputs for cell in notebook.cells]
    assert not [x for cell in outputs for x in cell if x.output_type == "stream" and x.name == "stderr"]
    return outputs


def shown(outputs, kind):
    return [x.data[kind] for x in outputs if "data" in x and kind in x.data]


@pytest.mark.heavy
def test_a_fresh_kernel_shows_figures_tables_and_bars(monkeypatch):
    _, figure, last, plotted, result, plan, prompt, cache, *_ = executed(
        FIRST,
        'result = model.activation_patching(*prompts, positions="each", progress=False)\nfig = result.plot()',
        "result.plot()",
        "model.activation_patching(*prompts, plot=True, progress=False);",
        'model.activation_patching(*prompts, positions="each")',
        "model.activation_patching(*prompts, plan_only=True)",
        "model.prompt(prompts[0])",
        "with model.trace(prompts[0]) as trace:\n    pass\ntrace.activations",
        "import sys\nassert not {'matplotlib.pyplot', 'plotly'} & {*sys.modules}",
        monkeypatch=monkeypatch,
    )
    assert not figure  # it is shown when it is asked for
    for outputs in (last, plotted):
        assert len(outputs) == 1 and len(shown(outputs, "image/png")) == 1
    widget = shown(result, "application/vnd.jupyter.widget-view+json")
    text = "".join(x.text for x in result if x.output_type == "stream")
    assert widget if importlib.util.find_spec("ipywidgets") else "120/120" in text  # the bar
    assert "<table>" in shown(result, "text/html")[0] and "<pre" in shown(plan, "text/html")[0]
    assert "Eif" in shown(prompt, "text/html")[0] and len(shown(cache, "text/plain")[0]) < 80


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("first", "kind"),
    [
        ("%matplotlib inline\nimport matplotlib.pyplot as plt", "image/png"),
        ('%config InlineBackend.figure_formats = ["retina"]\n%matplotlib inline', "image/png"),
        ('%config InlineBackend.figure_formats = ["svg"]\n%matplotlib inline', "image/svg+xml"),
    ],
)
def test_figures_are_shown_once_however_matplotlib_is_set(monkeypatch, first, kind):
    plot = "result = model.activation_patching(*prompts, progress=False)\nresult.plot()"
    both = "model.activation_patching(*prompts, plot=True, progress=False);"
    for outputs in executed(first, FIRST, plot, both, monkeypatch=monkeypatch)[2:]:
        assert len(outputs) == 1 and len(shown(outputs, kind)) == 1


@pytest.mark.heavy
def test_without_widgets_bars_are_text_and_nobody_is_told_to_install_them(monkeypatch):
    _, _, shown_by_default, asked_for, off = executed(
        'import sys\nsys.modules["ipywidgets"] = None',
        FIRST,
        "model.activation_patching(*prompts);",
        "model.activation_patching(*prompts, progress=True);",
        "model.activation_patching(*prompts, progress=False);",
        monkeypatch=monkeypatch,
    )
    for outputs in (shown_by_default, asked_for):
        assert "12/12" in "".join(x.text for x in outputs if x.output_type == "stream")
    assert not [x for x in off if x.output_type == "stream"]


@pytest.mark.heavy
def test_results_of_any_size_are_shown_by_every_class(monkeypatch):
    outputs = executed(LONG, "for result in every.values():\n    display(result)", monkeypatch=monkeypatch)[1]
    pages = shown(outputs, "text/html")
    assert len(pages) == len(outputs) > 20 and max(len(page.encode()) for page in pages) < 200_000
    assert not [page for page in pages if "<script" in page]
