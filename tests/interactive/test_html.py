"""Pages of interactive figures: one file that fetches nothing, whole or not at all, and one error without plotly."""

import builtins
import dataclasses
import importlib
import sys

import pytest
from test_patching_result import layers, make

from mlxtrace import interactive
from mlxtrace.errors import InputError, UnsupportedError
from mlxtrace.interactive import html

plotly = pytest.importorskip("plotly")
HOSTILE = '</script><script>window.popped = 1</script><b>bold</b><a href="https://example.org">x</a> $x^2$ %{z} &lt;'


def test_a_file_is_whole_and_below_6_mb(tmp_path):
    path = tmp_path / "x.html"
    figure = layers().explore(path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>")
    assert path.stat().st_size < 6e6 and text.count("plotly.js v") <= 2
    assert "<title>Restoring the MLP output (whole sequence)</title>" in text
    assert [p.name for p in tmp_path.iterdir()] == ["x.html"]
    assert interactive.write(figure, path) == path


def test_fragments_share_one_copy_of_the_library():
    figure = layers().explore()
    one, two = interactive.div(figure), interactive.div(figure)
    assert max(map(len, (one, two))) < 20_000 < len(interactive.script())
    ids = {part.split('id="')[1].split('"')[0] for part in (one, two)}
    assert len(ids) == 2, "two figures of a page have ids of their own"


@pytest.mark.parametrize("name", ["x.png", "x", "missing/x.html", "", "x.html.gz", 5])
def test_a_path_is_looked_at_before_any_work(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = layers()
    result.panels = lambda metric=None: pytest.fail("it was drawn")
    with pytest.raises(InputError):
        result.explore(name)
    assert not list(tmp_path.iterdir())


def test_a_page_that_cannot_be_made_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "x.html"
    path.write_text("before")
    monkeypatch.setattr(html, "div", lambda figure: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        layers().explore(path)
    assert path.read_text() == "before" and len(list(tmp_path.iterdir())) == 1


def test_without_plotly_one_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    for draw in (lambda: layers().explore(), lambda: interactive.script()):
        with pytest.raises(UnsupportedError, match=r"pip install plotly"):
            draw()


def test_an_old_plotly_is_said(monkeypatch):
    monkeypatch.setattr(plotly, "__version__", "5.24.1")
    with pytest.raises(UnsupportedError, match=r"plotly 6 or later.*there is 5\.24\.1"):
        layers().explore()


def test_importing_the_package_does_not_import_plotly(monkeypatch):
    """Only a figure does."""
    real = builtins.__import__

    def refused(name, *rest, **more):
        assert not name.startswith("plotly"), name
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refused)
    for module in ("mlxtrace.interactive.html", "mlxtrace.interactive.map_grid", "mlxtrace.interactive"):
        importlib.reload(importlib.import_module(module))


def test_what_users_wrote_does_not_end_the_script(tmp_path):
    result = make([0.1, 0.5, 0.9, 0.05], clean_text=HOSTILE, model=HOSTILE)
    part = interactive.div(result.explore())
    assert "window.popped = 1</script>" not in part and "<b>bold" not in part and part.count("</script>") == 1


NOTEBOOK = """
import mlxtrace
result = mlxtrace.PatchingResult.load("result.npz")
"""


@pytest.mark.heavy
def test_a_notebook_shows_the_figure_as_a_cells_last_line(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    layers().save(tmp_path / "result.npz")
    cells = [
        nbformat.v4.new_code_cell(text)
        for text in (NOTEBOOK, "result.explore()", 'result.explore("x.html");')
    ]
    book = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(book, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = book.cells[1].outputs[
        -1
    ]  # before it stands what plotly shows with the first figure of a notebook
    data = shown["data"]["application/vnd.plotly.v1+json"]["data"]
    assert data[0]["type"] == "bar" and (tmp_path / "x.html").stat().st_size < 6e6
    assert not [out for cell in book.cells for out in cell.outputs if out.output_type == "stream"]


@pytest.mark.heavy
def test_files_of_large_results_are_below_6_mb(tmp_path):
    """500 tokens, 80 layers and 64 heads, each with an effect of its own; with intervals; and what has no end."""
    import numpy as np
    from compared_traces import trace
    from edges_made_up import made_up
    from test_token_hover import lens

    rng = np.random.default_rng(0)
    tokens = [f" word{i}" for i in range(500)]
    fields = {
        "tokens": tokens,
        "corrupted_tokens": tokens,
        "subject_range": range(400, 406),
        "clean_text": "".join(tokens),
    }
    heads = make(rng.uniform(0.1, 0.9, (80, 500, 64)), ("layer", "position", "head"), **fields)
    maps = make(rng.uniform(0.1, 0.9, (2, 80, 500)), ("component", "layer", "position"), **fields)
    deep = trace(rng.uniform(0.1, 0.9, (2000, 126)), subject=range(1000, 1004))
    looked = rng.dirichlet(np.ones(500), (64, 500))
    edges = made_up(size=(12, 12), pairs=2)
    figures = {
        "heads": heads.explore(),
        "maps": maps.explore(),
        "trace": deep.explore(),
        "lens": interactive.lens(lens(80, 500)),
        "attention": interactive.attention(looked, tokens),
        "by token": interactive.attention(looked, tokens, view="token"),
        "edges": edges.explore(),
        "circuit": edges.circuit(2000).explore(most=1000),
    }
    sizes = {}
    for name, figure in figures.items():
        path = interactive.write(figure, tmp_path / f"{name}.html")
        sizes[name] = path.stat().st_size / 1e6
    assert max(sizes.values()) < 6, sizes
    assert all(figure.layout.height < 3000 for figure in figures.values())


def hostile_results():
    """A figure of each kind of result, whose texts are what a page must not run."""
    import numpy as np
    from compared_traces import compared, trace
    from edges_made_up import made_up
    from test_causal_effects_result import made as effects
    from test_patching_difference import difference
    from test_patching_result import make
    from test_path_result import at_positions
    from test_screened import STRONG, screened
    from test_token_hover import lens

    rng = np.random.default_rng(0)
    tokens = [HOSTILE[:20], "<b>x", "$a$ %{z}", "<br>"]
    one = make(
        rng.uniform(0.1, 0.9, (3, 4)), ("layer", "position"), tokens=tokens, clean_text=HOSTILE, model=HOSTILE
    )
    traced = trace(rng.uniform(0.1, 0.9, (4, 3)))
    traced.tokens, traced.prompt = tokens, HOSTILE
    traced.answer = dataclasses.replace(traced.answer, text=HOSTILE)
    both = compared(rng.random((4, 3)), rng.random((4, 3)))
    both.names = (HOSTILE, "4 bits")
    caused = effects(positions=[0, 2], tokens=tokens, base_text=HOSTILE, metric=HOSTILE)
    paths = at_positions(tokens=tokens[:3], clean_text=HOSTILE, corrupted_text=HOSTILE, metrics=["prob"])
    cells = screened(STRONG, 10, 40)
    cells.rows[0]["token"] = HOSTILE
    edges = made_up(metric=HOSTILE)
    gap = difference()
    gap.names, gap.title = (HOSTILE, HOSTILE), HOSTILE
    figures = [x.explore() for x in (one, traced, both, caused, paths, cells, edges, edges.circuit(60), gap)]
    seen = lens(token=HOSTILE, model=HOSTILE, prompt=HOSTILE, answer=HOSTILE)
    looked = np.full((2, 4, 4), 0.25)
    return [*figures, interactive.lens(seen), interactive.attention(looked, tokens, heads=[HOSTILE, "<b>"])]


@pytest.mark.heavy
def test_texts_are_inert_in_every_figure(tmp_path):
    """One page with a figure of each kind: it opens without an error or a request, and hovering shows a value."""
    from opened_pages import opened

    figures = hostile_results()
    body = interactive.script() + "".join(map(interactive.div, figures))
    path = tmp_path / "all.html"
    path.write_text(html.document(HOSTILE, body), encoding="utf-8")
    seen = opened(path, [{"curveNumber": -1}], tmp_path)
    assert not seen.errors and not seen.fetched and not seen.links and not seen.popped
    assert len(seen.hovers) == len(figures) and all(any(c.isdigit() for c in text) for text in seen.hovers)
    assert sum("<b>bold</b>" in text for text in seen.texts) >= 5
