"""The document: valid, small, and bound to run its own scripts and nothing else."""

import base64
import hashlib
import itertools
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from test_patching_result import make

from mlxtrace.errors import UnsupportedError
from mlxtrace.interactive import html
from mlxtrace.pages import report
from mlxtrace.pages.document import policy
from mlxtrace.pages.elements import VOID
from mlxtrace.pages.reproduction import About

HOSTILE = "</script><img src=x onerror=alert(1)><script>window.popped = 1</script>"


class Page(HTMLParser):
    """The elements of a page; which ones are open at its end."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.wrong = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        self.open += [] if tag in (*VOID, "img") else [tag]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A page of a result all of whose texts are hostile."""
    raw = np.random.default_rng(0).uniform(0.1, 0.9, (3, 4))
    tokens = ["The", HOSTILE, "<b>x</b>", "&lt;"]
    texts = {"clean_text": HOSTILE, "corrupted_text": HOSTILE, "model": f"m{HOSTILE}", "notes": [HOSTILE]}
    result = make(raw, ("layer", "position"), tokens=tokens, corrupted_tokens=tokens[::-1], **texts)
    about = About(HOSTILE, HOSTILE, [[(HOSTILE, 0.5)]] * 2, [HOSTILE])
    path = tmp_path_factory.mktemp("page") / "x.html"
    return report.report([result, make([0.1, 0.3], **texts)], path, HOSTILE, HOSTILE, about=about).read_text(
        "utf-8"
    )


def test_hostile_texts_are_inert(hostile):
    page = Page(hostile)
    assert not page.wrong and not page.open and hostile.startswith("<!DOCTYPE html>")
    assert not [
        tag for tag, attributes in page.seen if tag == "img" or any(k.startswith("on") for k in attributes)
    ]
    assert [tag for tag, _ in page.seen].count(
        "script"
    ) == 4  # the library, printing, and one for each of two figures
    assert {tag for tag, _ in page.seen}.isdisjoint({"link", "iframe", "object", "form", "base"})


def test_nothing_is_fetched_and_only_its_own_scripts_run(hostile):
    page = Page(hostile)
    (meta,) = [a["content"] for tag, a in page.seen if a.get("http-equiv") == "Content-Security-Policy"]
    assert meta.startswith("default-src 'none'") and "unsafe-inline'" not in meta.split("style-src")[0]
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", hostile, re.DOTALL)
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in meta
    assert not [a for _, a in page.seen if "src" in a or not a.get("href", "#").startswith("#")]


def test_a_script_that_is_none_of_its_own_is_not_allowed():
    digest = base64.b64encode(hashlib.sha256(b"window.popped = 1").digest()).decode()
    assert (
        digest not in policy("<script>1</script>")
        and policy("<script>window.popped = 1</script>").count(digest) == 1
    )


def test_its_structure_can_be_read_aloud(hostile):
    page = Page(hostile)
    assert page.seen[0] == ("html", {"lang": "en"})
    tags = [tag for tag, _ in page.seen]
    assert tags.count("h1") == 1 and tags.count("caption") == tags.count("table") > 1
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    ids = [a["id"] for _, a in page.seen if "id" in a]
    assert len(ids) == len(set(ids)) and {a["href"][1:] for _, a in page.seen if "href" in a} <= set(ids)


def test_without_plotly_there_is_one_error(monkeypatch, tmp_path):
    def missing(part="graph_objects"):
        raise UnsupportedError(html.INSTALL)

    monkeypatch.setattr("mlxtrace.pages.document.plotly", missing)
    with pytest.raises(UnsupportedError, match="pip install"):
        report.report(make([0.1]), tmp_path / "x.html")
    assert not list(tmp_path.iterdir())
