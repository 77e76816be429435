"""The house: imports go down the list of rooms, nothing goes in a circle, and no file or function grows two ideas."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import mlxtrace

ROOT = Path(mlxtrace.__file__).parent
# Folders and files of the top, from the front door down: each may import what stands in a later line, or its own room.
ROOMS = [
    ["__init__"],
    ["patch", "check"],
    ["options"],
    ["option_values"],
    ["model"],
    ["laws"],
    ["prompts"],
    ["experiments"],
    ["results"],
    ["plotting"],
    ["engine"],
    ["forward"],
    ["anatomy"],
    ["text"],
    ["metrics"],
    ["interventions"],
    ["loading"],
    ["storage"],
    ["checksums", "finite"],
    ["arguments"],
    ["errors"],
    ["blas", "terminal", "version"],
]
LEVEL = {name: i for i, line in enumerate(ROOMS) for name in line}
WHOLE = {"text/tokens.py"}  # one idea, however long
FILES = sorted(p for p in ROOT.rglob("*.py") if "demo" not in p.parts)
MOST_LINES, MOST_STATEMENTS, MEAN_IMPORTS, MOST_ENTERED = 300, 40, 3.5, 20


def module_of(path: Path) -> str:
    """`forward/trace.py` -> "forward.trace"; a folder's `__init__.py` -> the folder; the package's -> "__init__"."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_of(p): p for p in FILES}


@cache
def imported(module: str) -> frozenset[str]:
    """The modules of the package that a file imports: anywhere, in functions and for typing included."""
    path, found = MODULES[module], set()
    package = path.parent.relative_to(ROOT).parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name.partition(".")[2] for a in node.names if a.name.startswith("mlxtrace.")}
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
        elif (node.module or "").split(".")[0] == "mlxtrace":
            base = (node.module or "").split(".")[1:]
        else:
            continue
        base = [part for part in base if part]
        for alias in node.names:
            inner = ".".join([*base, alias.name])
            found.add(inner if inner in MODULES else ".".join(base) or "__init__")
    return frozenset(found & set(MODULES) - {module})


def room(module: str) -> int:
    return LEVEL[module.split(".")[0]]


def test_every_file_has_its_room():
    assert {m.split(".")[0] for m in MODULES} <= set(LEVEL), "write the new folder or file into ROOMS"


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    up = [m for m in imported(module) if room(m) < room(module)]
    beside = [
        m for m in imported(module) if room(m) == room(module) and m.split(".")[0] != module.split(".")[0]
    ]
    assert not up and not beside


def test_nothing_goes_in_a_circle():
    below: dict[str, set[str]] = {m: set(imported(m)) for m in MODULES}
    while leaves := [m for m, inner in below.items() if not inner & below.keys()]:
        for leaf in leaves:
            del below[leaf]
    assert not below, f"circles among {sorted(below)}"


def test_files_import_little():
    counts = {m: len(imported(m)) for m in MODULES}
    mean = sum(counts.values()) / len(counts)
    assert mean <= MEAN_IMPORTS, f"{mean:.2f}; the most: {sorted(counts.items(), key=lambda x: -x[1])[:8]}"


ENTERED = """
import sys
from mlxtrace import InterpretableModel
model, files = InterpretableModel("demo"), set()
def enter(frame, event, arg):
    name = frame.f_code.co_filename
    if event == "call" and "/mlxtrace/" in name and frame.f_code.co_name != "<module>":
        files.add(name.split("/mlxtrace/")[-1])
sys.setprofile(enter)
model.activation_patching("The Eiffel Tower is in the city of", "The Louvre Museum is in the city of")
sys.setprofile(None)
print(*sorted(files))
"""


def test_a_first_experiment_is_read_in_a_few_files():
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ENTERED], capture_output=True, text=True, check=True
    )
    files = run.stdout.split()
    assert 5 < len(files) <= MOST_ENTERED, files


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_file_is_one_idea(path):
    name = str(path.relative_to(ROOT))
    assert name in WHOLE or len(path.read_text().splitlines()) <= MOST_LINES


def _lines(node: ast.FunctionDef) -> int:
    """Lines of the body without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
    return body[-1].end_lineno - body[0].lineno + 1


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_function_is_one_step(path):
    functions = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)]
    assert not {f.name: _lines(f) for f in functions if _lines(f) > MOST_STATEMENTS}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_files_say_what_they_are_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


# Nobody calls these from outside.
INSIDE = ("options", "option_values", "engine", "results.record")


def _speaks_for_itself(node: ast.AST) -> bool:
    """Properties, methods without arguments and functions of one line may rest on their names."""
    if not isinstance(node, ast.FunctionDef):
        return False
    bare = [a.arg for a in node.args.args] in (["self"], ["cls"])
    return bare or (len(node.body) == 1 and node.body[0].lineno == node.body[0].end_lineno)


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith(INSIDE)])
def test_public_functions_and_classes_have_docstrings(module):
    missing = []

    def walk(node, prefix):
        for child in node.body:
            if not isinstance(child, (ast.FunctionDef, ast.ClassDef)) or child.name.startswith("_"):
                continue
            setter = any("setter" in ast.dump(d) for d in child.decorator_list)
            if not ast.get_docstring(child) and not setter and not _speaks_for_itself(child):
                missing.append(f"{prefix}{child.name}")
            if isinstance(child, ast.ClassDef):
                walk(child, f"{child.name}.")

    walk(ast.parse(MODULES[module].read_text()), "")
    assert not missing, f"{module}: {missing}"


def test_the_public_names_are_there():
    for name in mlxtrace.__all__:
        assert hasattr(mlxtrace, name), name
        if inspect.isclass(getattr(mlxtrace, name)):
            assert inspect.getdoc(getattr(mlxtrace, name)), name
