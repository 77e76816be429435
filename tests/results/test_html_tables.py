"""Results in notebooks: HTML of every class, small at any size, every text inert, in the notebook's own colours."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # edges_made_up

from every_result import BAD, Made

import mlxtrace
from mlxtrace.notebook import Displayed
from mlxtrace.results.html_tables import TINTS, document, heat, listed, strongest
from mlxtrace.terminal import width

# Too general to be a result: their subclasses are.
INSIDE = {"Saved", "Record", "EdgeSet", "Scoped"}
OTHERS = {"Plan", "PlanUntil", "Comparison", "ComparisonSet"}  # which are not saved as wholes


@pytest.fixture(scope="module")
def every():
    """Results at 500 tokens, 80 layers and 64 heads, and the same at 2 tokens, one layer and one head."""
    return {size: Made(*size).every() for size in ((500, 80, 64), (2, 1, 1))}


def kinds():
    found = [Displayed]
    for kind in found:
        found += [sub for sub in kind.__subclasses__() if sub.__module__.startswith("mlxtrace.")]
    return {kind.__name__ for kind in found} - INSIDE - {"Displayed"}


def test_every_class_is_here(every):
    """A result class that is new gets a line in `Made.every`."""
    assert kinds() >= OTHERS and all(set(found) == kinds() for found in every.values())


class Tags(HTMLParser):
    """The tags of a page, and whether each is closed."""

    def __init__(self, page):
        super().__init__()
        self.seen, self.open = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_pages_are_small_safe_and_readable_in_the_dark(every):
    for found in every.values():
        for name, result in found.items():
            page = result._repr_html_()
            assert len(page.encode()) < 200_000, name
            tags = Tags(page)
            assert not tags.open and tags.seen <= {"b", "br", "div", "i", "pre", "table", "tr", "td", "th"}, (
                name
            )
            assert "\x1b" not in page and "\u202e" not in page, name
            styles = re.findall(r'style="([^"]*)"', page)
            assert not [s for s in styles if re.search(r"(^|;)\s*color:", s)], name  # text is the notebook's


def test_prints_fit_a_terminal(every):
    for found in every.values():
        for name, result in found.items():
            lines = str(result).splitlines()
            assert len(lines) <= 100, name
            assert "-0.0 " not in str(result) and not re.search(r"-0\.0+\b(?!\d)", str(result)), name
            assert "\x1b" not in str(result) and "\u202e" not in str(result), name
            known = [line for line in lines if "script" in line or re.match(r"  (\w|note|[+-]:)", line)]
            assert max((width(line) for line in lines if line not in known), default=0) <= 150, name
            assert max(map(width, lines)) < 500, name


def test_what_is_cut_is_said(every):
    found = every[500, 80, 64]
    for name in ("PatchingResult", "PatchingSet", "AttributionResult", "CausalTrace", "CausalEffects"):
        for said in (str(found[name]), found[name]._repr_html_()):
            assert "positions 0-409 are between" in said and "to_rows() has all" in said, name
    heads = Made(60, 4, 64).patching(dims=("layer", "position", "head"))
    assert "the 4 strongest of 64 maps; to_rows() has all" in repr(heads)
    assert heads._repr_html_().count("<table>") == 4


def test_a_map_in_html():
    shares = np.array([[0.0, 0.5], [-1.0, np.nan]])
    page = heat("layer", ["a", BAD], [0, 1], shares, lambda i, j: f"{100 * shares[i, j]:.0f}", "1,2,255")
    assert "<td>0</td>" in page and '<td style="background:#0102ff60">50</td>' in page
    assert '<td style="background:#808080bf">-100</td><td></td>' in page  # no opposite: grey
    opposite = heat("layer", ["a"], [0, 1], np.array([[1.0, -1.0]]), lambda i, j: "x", TINTS["mlp"])
    assert (
        opposite.count("background:#") == 2 and "#228a44bf" in opposite and "#808080bf" not in opposite
    )  # its own opposite
    assert BAD not in page and "&lt;script&gt;" in page and "rgb(1,2,255)" in page
    values = np.zeros((1000, 50))
    values[7] = 1
    page = heat(
        "position", range(1000), range(50), values, lambda i, j: "1", "1,2,3", labels=range(1000), cells=500
    )
    assert page.count("<tr>") == 2 and "positions 0-6 are 0; positions 8-999 are 0; to_rows() has all" in page


def test_the_strongest_of_many():
    tables = [np.full((2, 2), x) for x in (0.1, -5.0, np.nan, 3.0, 0.0)]
    assert strongest(tables, 2) == ([1, 3], "the 2 strongest of 5 maps; to_rows() has all")
    assert strongest(tables[:2], 2) == ([0, 1], "")


def test_rows_and_pages():
    page = listed([{"sender": "a0", "score": -0.0}, {"sender": BAD, "score": 0.123456}], 50)
    assert "<td>0</td>" in page and "0.1235" in page and BAD not in page and "2 strongest of 50" in page
    page = document(BAD, ["a" * 5000], ["mind"], ["<table></table>"])
    assert BAD not in page and len(page) < 1000 and "note: mind" in page


def test_public_results_are_displayed():
    for name in mlxtrace.__all__:
        kind = getattr(mlxtrace, name)
        if isinstance(kind, type) and hasattr(kind, "to_rows"):
            assert issubclass(kind, Displayed), name
