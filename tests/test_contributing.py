"""CONTRIBUTING.md is true: what it names is there, and what it says to write can be written."""

from __future__ import annotations

import ast
import re
import textwrap

import pytest
from test_house import MOST_LINES, MOST_STATEMENTS, ROOMS, ROOT

REPOSITORY = ROOT.parent
PAGE = REPOSITORY / "CONTRIBUTING.md"
NEW = {"mlxtrace/experiments/zeroing.py", "tests/experiments/test_zeroing.py"}  # what its recipes make

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="installed without its CONTRIBUTING.md")


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def recipes() -> dict[str, str]:
    """Title -> text of each "how to add"."""
    parts = re.split(r"^### (.+)$", page(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_files_that_are_named_exist():
    named = set(re.findall(r"(?:mlxtrace|tests|docs|\.ci)/[\w./]*\w|\b[A-Z]+\.md", page()))
    assert len(named) > 15
    assert {name for name in named if not (REPOSITORY / name).exists()} == NEW


def test_a_recipe_touches_at_most_three_files():
    assert set(recipes()) == {"a metric", "a component", "an experiment", "an architecture exception"}
    for title, text in recipes().items():
        steps = re.findall(r"^(\d)\. `([\w./]+)`", text, re.M)
        assert [number for number, _ in steps] == ["1", "2", "3"][: len(steps)] and steps, title


def test_the_tables_that_are_named_are_where_it_says():
    for text in recipes().values():
        for path, table in re.findall(r"`([\w./]+\.py)`: an entry in `(\w+)`", text):
            assert re.search(rf"^{table}\b.* = [({{]", (REPOSITORY / path).read_text(), re.M), (path, table)


def test_what_it_says_to_write_is_python():
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", page(), re.M | re.S)
    assert len(blocks) >= 7
    for block in blocks:
        code = textwrap.dedent(block).strip()
        ast.parse(f"{{{code}}}" if code.startswith('"') and not code.startswith('"""') else code)


def test_the_map_has_every_room_in_the_order_of_imports():
    rows = re.findall(r"^\| (`mlxtrace/.*?) \|", page(), re.M)
    named = [name for row in rows for name in re.findall(r"`mlxtrace/(\w+)", row)]
    order = [name for line in ROOMS for name in line]
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders <= set(named)
    assert [n for n in named if n in order] == sorted((n for n in named if n in order), key=order.index)


def test_the_lengths_are_those_that_are_held():
    assert f"({MOST_LINES}\nlines)" in page() and f"({MOST_STATEMENTS})" in page()
