"""CONTRIBUTING.md is true: what it names is there, and what it says to write can be written."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

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


def test_every_file_of_the_top_and_every_room_is_named():
    rooms = [p for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").is_file()]
    files = [p for p in ROOT.glob("*.py") if p.stem != "__init__"]
    named = {*(f"`mlxtrace/{p.name}/`" for p in rooms), *(f"`mlxtrace/{p.name}`" for p in files)}
    assert not {name for name in named if name not in page()}


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


def snippets(title: str) -> list[str]:
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", recipes()[title], re.M | re.S)
    return [textwrap.dedent(block).strip() + "\n" for block in blocks]


def put(path: Path, before: str, text: str) -> None:
    """Write a text into a file, before the first line that starts with another."""
    found = re.search(rf"^{re.escape(before)}", whole := path.read_text(), re.M)
    assert found, (path, before)
    path.write_text(whole[: found.start()] + text + whole[found.start() :])


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy to write into."""
    for folder in ("mlxtrace", "tests"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("README.md", "CONTRIBUTING.md", "pyproject.toml"):
        shutil.copy(REPOSITORY / file, tmp_path)
    return tmp_path


def passes(folder: Path, *arguments: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(folder), "MPLBACKEND": "Agg"}
    for command in (["pytest", "-q", "-n", "0", *arguments], ["mlxtrace.check", "demo"]):
        run = [sys.executable, "-W", "ignore", "-m", *command]
        done = subprocess.run(run, cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


NAMED = "tests/test_readme.py::test_every_component_and_metric_is_named"


@pytest.mark.heavy
def test_a_metric_is_added_as_the_page_says(checkout):
    entry, by_hand = snippets("a metric")
    put(checkout / "mlxtrace/metric_table.py", "    MetricKind(", f"    {entry.strip()},\n")
    put(checkout / "mlxtrace/laws/metric_formulas.py", '    "prob":', f"    {by_hand.strip()},\n")
    put(checkout / "README.md", "or a function of the last", "`margin`, ")
    passes(
        checkout,
        "tests/test_metric_table.py",
        "tests/laws/test_metric_formulas.py",
        "tests/test_metrics.py",
        NAMED,
    )


@pytest.mark.heavy
def test_a_component_is_added_as_the_page_says(checkout):
    entry, finder = snippets("a component")
    put(checkout / "mlxtrace/anatomy/components.py", '    Component("neuron"', f"    {entry.strip()},\n")
    put(checkout / "mlxtrace/anatomy/finders.py", "def _internal", f"{finder}\n\n")
    put(checkout / "README.md", "mixtures of experts, `router`", "`mlp_in`, ")
    passes(checkout, "tests/anatomy/test_components.py", "tests/identities/test_sweep_laws.py", NAMED)


@pytest.mark.heavy
def test_an_experiment_is_added_as_the_page_says(checkout):
    experiment, binding, test = snippets("an experiment")
    (checkout / "mlxtrace/experiments/zeroing.py").write_text(experiment)
    (checkout / "tests/experiments/test_zeroing.py").write_text(test)
    line, _, inside = binding.strip().split("\n")
    put(checkout / "mlxtrace/model.py", "from .forward", f"{line}\n")
    put(checkout / "mlxtrace/model.py", "    activation_patching = ", f"    {inside}\n")
    files = ["tests/experiments/test_zeroing.py", "tests/test_docstrings.py", "tests/test_house.py"]
    passes(checkout, *files, "-k", "zeroing")


@pytest.mark.heavy
def test_an_exception_is_added_as_the_page_says(checkout):
    put(
        checkout / "mlxtrace/anatomy/architecture_exceptions.py",
        '    "gemma3n":',
        f"    {snippets('an architecture exception')[0].strip()},\n",
    )
    code = (
        "import models; from mlxtrace import InterpretableModel as M;"
        "from mlxtrace.anatomy.architecture_exceptions import exceptional;"
        "print(exceptional(M(models.make('qwen2')).net).engines['prefix'])"
    )
    env = {**os.environ, "PYTHONPATH": f"{checkout}:{checkout / 'tests'}"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=checkout, env=env, capture_output=True, text=True
    )
    assert "its layers look at the positions behind them" in done.stdout, done.stderr


def test_the_map_has_every_room_in_the_order_of_imports():
    rows = re.findall(r"^\| (`mlxtrace/.*?) \|", page(), re.M)
    named = [name for row in rows for name in re.findall(r"`mlxtrace/(\w+)", row)]
    order = [name for line in ROOMS for name in line]
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders <= set(named)
    assert [n for n in named if n in order] == sorted((n for n in named if n in order), key=order.index)


def test_the_lengths_are_those_that_are_held():
    assert f"({MOST_LINES}\nlines)" in page() and f"({MOST_STATEMENTS})" in page()
