"""mlxtrace.report: any result or list of them; bad input before any work; the file whole or not at all."""

import numpy as np
import pytest
from page_results import CLASSES, page_results
from test_patching_result import make

import mlxtrace
from mlxtrace.errors import InputError
from mlxtrace.pages import report as module
from mlxtrace.pages.methods import METHODS, kind_of


@pytest.fixture
def quick(monkeypatch):
    """Without plotly.js, which is most of a page."""
    monkeypatch.setattr("mlxtrace.pages.document.script", lambda: "<script></script>")


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_makes_a_page(name, tmp_path, quick):
    result = page_results()[name]
    text = mlxtrace.report(result, tmp_path / "x.html").read_text("utf-8")
    assert METHODS[kind_of(result)].heading in text and "<h1>" in text and "To make it again" in text
    assert "nan" not in text.split("<script")[0].lower().replace("nanda", "")


def test_a_list_makes_one_page_and_a_loaded_result_the_same(tmp_path, quick):
    results = [page_results()[name] for name in ("PatchingResult", "CausalTrace", "PathResult")]
    page = mlxtrace.report(results, tmp_path / "x.html").read_text("utf-8")
    assert all(METHODS[kind_of(one)].heading in page for one in results)
    loaded = [type(one).load(one.save(tmp_path / type(one).__name__)) for one in results]
    again = mlxtrace.report(tuple(loaded), str(tmp_path / "y.html")).read_text("utf-8")
    assert again.split("<h2>")[1].split("<nav")[0] == page.split("<h2>")[1].split("<nav")[0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "it is NoneType None"),
        ([], "the list is empty"),
        ([make([0.1]), "x"], "number 2 of the list is str 'x'"),
        (np.ones(3), "it is ndarray"),
        ({"a": 1}, "it is dict"),
    ],
)
def test_what_is_no_result_is_refused(given, words, tmp_path):
    with pytest.raises(InputError, match=words):
        mlxtrace.report(given, tmp_path / "x.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x.png", "x", "missing/x.html", "", "x.html.gz", "folder.html", 5, None])
def test_a_path_is_looked_at_first(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.html").mkdir()
    monkeypatch.setattr(module, "document", lambda *_: pytest.fail("work was done"))
    with pytest.raises(InputError):
        mlxtrace.report(make([0.1]), name)


@pytest.mark.parametrize("more", [{"title": 5}, {"title": " "}, {"question": []}, {"about": "x"}])
def test_other_arguments_are_looked_at(more, tmp_path):
    with pytest.raises(InputError, match=next(iter(more))):
        mlxtrace.report(make([0.1]), tmp_path / "x.html", **more)


def test_what_was_there_stays_when_a_page_cannot_be_made(tmp_path, monkeypatch):
    path = tmp_path / "x.html"
    path.write_text("before")
    monkeypatch.setattr("mlxtrace.pages.sections.weaknesses", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        mlxtrace.report(make([0.1]), path)
    assert path.read_text() == "before" and len(list(tmp_path.iterdir())) == 1


def test_a_large_page_is_said_to_be_large(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    with pytest.warns(UserWarning, match="fewer results"):
        mlxtrace.report(make([0.1]), tmp_path / "x.html")
    assert (tmp_path / "x.html").stat().st_size > 1000
