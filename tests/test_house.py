"""The house: imports go down the list of rooms, nothing goes in a circle, and no file or function grows two ideas."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Collection
from functools import cache
from pathlib import Path

import pytest

import mlxtrace

ROOT = Path(mlxtrace.__file__).parent
# Folders and files of the top, from the front door down: each may import what stands in a later line, or its own room.
ROOMS = [
    ["__init__"],
    ["patch", "check"],
    ["options", "asked_prompts", "launched", "rankings", "report_runs"],
    ["option_values", "option_rules", "option_spelling"],
    ["model"],
    ["laws"],
    ["prompts"],
    ["experiments"],
    ["pages"],
    ["results"],
    ["interactive"],
    ["plotting"],
    ["engine"],
    ["forward"],
    ["anatomy"],
    ["loading"],
    ["adapters"],
    ["compiled"],
    ["text"],
    ["metrics"],
    ["custom_metric", "metric_table"],
    ["interventions"],
    ["intervention"],
    ["storage"],
    ["values"],
    ["arguments"],
    ["errors"],
    ["blas", "notebook", "terminal", "version"],
    ["demo"],  # scripts of its own; nothing imports them
]
LEVEL = {name: i for i, line in enumerate(ROOMS) for name in line}
WHOLE = {"text/tokens.py"}  # one idea, however long
TESTS = ROOT.parent / "tests"
FILES = sorted(ROOT.rglob("*.py"))
MOST_LINES, MOST_STATEMENTS, MEAN_IMPORTS, MOST_ENTERED = 300, 40, 3.5, 47


def module_of(path: Path) -> str:
    """`forward/trace.py` -> "forward.trace"; a folder's `__init__.py` -> the folder; the package's -> "__init__"."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_of(p): p for p in FILES}


def names_in(node: ast.AST, package: tuple[str, ...]) -> set[str]:
    """What a node imports of the package, as dotted names without "mlxtrace."; "" is the package itself.

    `from . import x` gives "x", and `from .x import y` "x.y": a module or a name in one. Calls of `import_module` and
    `__import__` count with the text that they are given.
    """
    if isinstance(node, ast.Import):
        whole = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        parents = ["mlxtrace", *package][: 2 + len(package) - node.level] if node.level else []
        base = ".".join([*parents, *filter(None, [node.module])])
        whole = [f"{base}.{alias.name}" for alias in node.names]
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
        name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
        assert isinstance(name, str), (
            f"{ast.unparse(node)}: name the module in a literal, so that it can be read"
        )
        dots = len(name) - len(name.lstrip("."))
        parents = ["mlxtrace", *package][: 2 + len(package) - dots]
        whole = [".".join([*parents, name[dots:]]) if dots else name]
    else:
        return set()
    return {name.partition(".")[2] for name in whole if name.split(".")[0] == "mlxtrace"}


def module_in(name: str, modules: Collection[str]) -> str:
    """The module that a dotted name is, or is in; "__init__" for the package's own."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or "__init__"


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    """Everything that stands in a file, the file itself first."""
    return list(ast.walk(ast.parse(path.read_text())))


@cache
def imported(module: str) -> frozenset[str]:
    """The modules of the package that a file imports: anywhere, in functions and for typing included."""
    path = MODULES[module]
    package = path.parent.relative_to(ROOT).parts
    names = {n for node in nodes_of(path) for n in names_in(node, package)}
    return frozenset(module_in(name, MODULES) for name in names) - {module}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from . import names", {"forward.names"}),
        ("from .names import child", {"forward.names"}),
        ("from .. import blas, metrics", {"blas", "metrics"}),
        ("from ..anatomy.taps import Site as S", {"anatomy.taps"}),
        ("from ..anatomy import resolver", {"anatomy.resolver"}),
        ("from .. import VERSION", {"__init__"}),
        ("import mlxtrace", {"__init__"}),
        ("import mlxtrace.model as m, mlx.core", {"model"}),
        ("from mlxtrace.engine import sweep", {"engine.sweep"}),
        ("from mlxtrace import model", {"model"}),
        ("def f():\n    from ..model import X", {"model"}),
        ("if TYPE_CHECKING:\n    from ..model import X", {"model"}),
        ("importlib.import_module('mlxtrace.model')", {"model"}),
        ("import_module('.check', __name__)", {"forward.check"}),
        ("importlib.import_module('..check', 'mlxtrace.forward')", {"check"}),
        ("__import__('mlxtrace.patch')", {"patch"}),
        ("import mlx.core\nfrom mlx_lm import models\nimport_module('json')", set()),
        ("x = 'from ..model import X'", set()),
    ],
)
def test_every_way_to_import_is_seen(code, found):
    modules = {*MODULES, "forward.names", "forward.check"}
    names = {name for node in ast.walk(ast.parse(code)) for name in names_in(node, ("forward",))}
    assert {module_in(name, modules) for name in names} == found


def test_what_is_imported_by_a_name_that_is_not_written_out_is_refused():
    for code in ("import_module(name)", "importlib.import_module(f'.{x}', __name__)", "__import__(x)"):
        with pytest.raises(AssertionError):
            [names_in(node, ()) for node in ast.walk(ast.parse(code))]


def room(module: str) -> int:
    return LEVEL[module.split(".")[0]]


def test_every_file_has_its_room():
    assert {m.split(".")[0] for m in MODULES} <= set(LEVEL), "write the new folder or file into ROOMS"


def test_imports_go_down():
    for module in MODULES:
        up = [m for m in imported(module) if room(m) < room(module)]
        beside = [
            m for m in imported(module) if room(m) == room(module) and m.split(".")[0] != module.split(".")[0]
        ]
        assert not up and not beside, module


def test_nothing_is_imported_for_typing_only():
    """What may be imported is imported; a name that only types need belongs in a protocol further down."""
    for module, path in MODULES.items():
        names = {x for n in nodes_of(path) for x in (getattr(n, "id", ""), getattr(n, "attr", ""))}
        assert "TYPE_CHECKING" not in names, module


def test_nothing_goes_in_a_circle():
    below: dict[str, set[str]] = {m: set(imported(m)) for m in MODULES}
    while leaves := [m for m, inner in below.items() if not inner & below.keys()]:
        for leaf in leaves:
            del below[leaf]
    assert not below, f"circles among {sorted(below)}"


def test_files_import_little():
    counts = {m: len(imported(m)) for m in MODULES if not m.startswith("demo")}
    mean = sum(counts.values()) / len(counts)
    assert mean <= MEAN_IMPORTS, f"{mean:.2f}; the most: {sorted(counts.items(), key=lambda x: -x[1])[:8]}"


ENTERED = """
import os, sys
import mlxtrace
from mlxtrace import InterpretableModel
root = os.path.dirname(mlxtrace.__file__) + os.sep
model, files = InterpretableModel("demo"), set()
def enter(frame, event, arg):
    name = frame.f_code.co_filename
    if event == "call" and name.startswith(root) and frame.f_code.co_name != "<module>":
        files.add(name[len(root):])
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


# Files without behaviour of their own, and what is tested under another name.
UNTESTED = {
    "__init__": "names only",
    "version": "one constant",
    "engine.protocol": "types only",
    "experiments.protocol": "types only",
    "interactive.toolbox": "names only",
    "plotting.protocols": "types only",
    "demo.corpus": "test_demo.py tests the demo's scripts together",
    "demo.site": "as above",
    "demo.train": "as above",
}


def test_tests_mirror_the_folders():
    """`forward/trace.py` is tested in `tests/forward/test_trace.py`; `identities` are laws of several rooms."""
    files = {m: p.relative_to(ROOT) for m, p in MODULES.items() if p.stem != "__init__" and m not in UNTESTED}
    wanted = {path.with_name(f"test_{path.name}") for path in files.values()}
    there = {path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}
    assert not sorted(map(str, wanted - there)), "each file has a file of tests"
    assert set(UNTESTED) <= set(MODULES)
    folders = {path.parent.name for path in there} - {"", "identities"}
    assert folders == {path.parent.name for path in wanted} - {""}


def test_test_files_have_names_of_their_own():
    """pytest imports them by their stems."""
    stems = [path.stem for path in TESTS.rglob("*.py")]
    assert len(set(stems)) == len(stems), sorted({s for s in stems if stems.count(s) > 1})


def test_a_file_is_one_idea():
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert not {name: n for name, n in lines.items() if n > MOST_LINES and name not in WHOLE}


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
    return body[-1].end_lineno - body[0].lineno + 1


def test_a_function_is_one_step():
    for path in FILES:
        functions = [n for n in nodes_of(path) if isinstance(n, FUNCTIONS)]
        assert not {f.name: _lines(f) for f in functions if _lines(f) > MOST_STATEMENTS}, path


def test_files_say_what_they_are_for():
    assert not [path for path in FILES if not ast.get_docstring(nodes_of(path)[0])]


@cache
def defined(path: Path) -> frozenset[str]:
    """The names that a file gives to anything: functions, classes, arguments, attributes, variables."""
    found = set()
    for node in nodes_of(path):
        name = getattr(node, "name", None) or getattr(node, "arg", None) or getattr(node, "id", None)
        found |= {x for x in (name, getattr(node, "attr", None)) if isinstance(x, str)}
    return frozenset(found)


def test_what_is_referred_to_is_there():
    """`see x` names a module, a class, something in this file, or `module.something`; `x.py` is a file."""
    modules = {part for module in MODULES for part in module.split(".")}
    everywhere = frozenset().union(*map(defined, FILES))
    files = [f"/{file}" for file in [*FILES, *TESTS.rglob("*.py")]]
    for path in FILES:
        text = path.read_text()
        for name in re.findall(r"\b[Ss]ee `([A-Za-z_][\w.]*)`", text):
            first, *rest = name.split(".")
            nearby = everywhere if first[0].isupper() else defined(path)
            assert first in modules or first in nearby, (path, name)
            assert everywhere.issuperset(rest), (path, name)
        for name in re.findall(r"(?<![\w./])(?:[a-z_]+/)*[a-z_]+\.py\b", text):
            assert any(file.endswith(f"/{name}") for file in files), (path, name)


# Nobody calls these from outside.
INSIDE = ("options", "option_values", "engine", "results.record")


def _speaks_for_itself(node: ast.AST) -> bool:
    """Properties, methods without arguments and functions of one line may rest on their names."""
    if not isinstance(node, ast.FunctionDef):
        return False
    bare = [a.arg for a in node.args.args] in (["self"], ["cls"])
    return bare or (len(node.body) == 1 and node.body[0].lineno == node.body[0].end_lineno)


def test_public_functions_and_classes_have_docstrings():
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

    for module, path in MODULES.items():
        if not module.startswith(INSIDE):
            walk(nodes_of(path)[0], f"{module}.")
    assert not missing


def test_the_public_names_are_there():
    for name in mlxtrace.__all__:
        assert hasattr(mlxtrace, name), name
        if inspect.isclass(getattr(mlxtrace, name)):
            assert inspect.getdoc(getattr(mlxtrace, name)), name


def test_results_that_users_get_are_public():
    """What experiments of one pair and of sets return can be named, loaded and asked for with isinstance."""
    from mlxtrace.results.saved import Saved

    found = [Saved]
    for kind in found:
        found += [sub for sub in kind.__subclasses__() if sub.__module__.startswith("mlxtrace.")]
    inside = {"Saved", "Record", "EdgeSet", "Scoped"}
    assert {kind.__name__ for kind in found} - inside <= set(mlxtrace.__all__)
