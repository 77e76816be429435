"""The house: imports go down the list of DESIGN.md section 2, and what is public says what it does."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import mlxtrace

ROOT = Path(mlxtrace.__file__).parent
# A module may import only what stands further down. The package itself (`from . import x`) is its modules.
HOUSE = [
    "__init__", "patch", "options", "check", "laws_runs", "laws_experiments", "laws", "whole", "trial", "noisefloor",
    "byhand", "model", "loading", "references", "facts", "factruns",
    "tracefolder", "effect_plots", "averages", "comparing", "tracing", "mediation", "noising",
    "records", "plotting", "attribution", "patching", "cautions", "experiment", "results", "tables", "metrics",
    "engines",
    "sweep", "textbook", "calibration", "memory", "batch", "changes", "runs", "corruption", "trace", "coroutine",
    "cache", "interventions", "resolver", "structure", "lengths", "writers", "heads", "recording", "activation",
    "taps", "attention", "block", "alignment", "tokens", "storage", "checksums", "finite", "blas", "errors",
    "terminal",
]  # fmt: skip
FIGURES = {
    "plotting",
    "effect_plots",
}  # `.plot()` of a result asks for them when it is called, and not before

FILES = sorted(p for p in ROOT.glob("*.py"))


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports anywhere, inside functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            name = node.module or ""
            if node.level == 1 or name.split(".")[0] == "mlxtrace":
                inner = name if node.level == 1 else name.partition(".")[2]
                found |= {inner.split(".")[0]} if inner else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("mlxtrace.")}
    return {name for name in found if (ROOT / f"{name}.py").is_file()}


def at_import(path: Path) -> set[str]:
    """The modules that a file imports when it is imported itself."""
    return {
        n.module for n in ast.parse(path.read_text()).body if isinstance(n, ast.ImportFrom) and n.level == 1
    }


def typing_only(path: Path) -> set[str]:
    """What is imported under TYPE_CHECKING, and so never when the package runs."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            found |= {n.module for n in ast.walk(node) if isinstance(n, ast.ImportFrom) and n.module}
    return found


def test_every_file_has_its_place():
    assert {p.stem for p in FILES} <= set(HOUSE), "write the new file into HOUSE, where it belongs"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_imports_go_down(path):
    here = HOUSE.index(path.stem)
    up = {name for name in imported(path) - typing_only(path) if HOUSE.index(name) <= here}
    assert up <= FIGURES - at_import(path)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_files_say_what_they_are_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


# The engine's rooms and the command's options: nobody calls them from outside.
INSIDE = {"options", "records", "engines", "sweep", "textbook", "calibration", "batch", "changes", "runs"}


def _speaks_for_itself(node: ast.AST) -> bool:
    """Properties, methods without arguments and functions of one line may rest on their names."""
    if not isinstance(node, ast.FunctionDef):
        return False
    bare = [a.arg for a in node.args.args] in (["self"], ["cls"])
    return bare or (len(node.body) == 1 and node.body[0].lineno == node.body[0].end_lineno)


@pytest.mark.parametrize("path", [p for p in FILES if p.stem not in INSIDE], ids=lambda p: p.stem)
def test_public_functions_and_classes_have_docstrings(path):
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

    walk(ast.parse(path.read_text()), "")
    assert not missing, f"{path.name}: {missing}"


def test_the_public_names_are_there():
    for name in mlxtrace.__all__:
        assert hasattr(mlxtrace, name), name
        if inspect.isclass(getattr(mlxtrace, name)):
            assert inspect.getdoc(getattr(mlxtrace, name)), name
