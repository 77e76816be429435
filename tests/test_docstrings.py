"""Docstrings are true and whole: every example runs by itself, and what users call says what it takes and gives."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mlxtrace
from mlxtrace import errors, facts, interactive, interventions, metrics, plotting, prompts
from mlxtrace.forward.trace import Trace

ROOT = Path(mlxtrace.__file__).parent


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def documented(path: Path) -> list[str]:
    """The docstrings of a file that have an example."""
    text = path.read_text(encoding="utf-8")
    if ">>>" not in text:
        return []
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    return [text for text in map(ast.get_docstring, nodes) if text and ">>>" in text]


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


@pytest.mark.parametrize("name", [name for name, path in FILES.items() if documented(path)])
def test_examples_run_by_themselves(name, tmp_path, monkeypatch, capsys, copied_once, shipped_once):
    """In an empty folder, without the module's own names, as after copying them into a console."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    module = importlib.import_module(name)
    runner, found = doctest.DocTestRunner(), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for example in doctest.DocTestFinder().find(module, globs={}):
            found += bool(example.examples)
            runner.run(example)
    assert not runner.failures, capsys.readouterr().out[-3000:]
    assert found == len(documented(FILES[name])), "an example that doctest does not find is not run"


# ---- what users call

# Other rooms call these, users do not.
INSIDE = {
    "ActivationCache.arrays", "AverageTrace.known", "AverageTrace.shapes", "CausalEffects.shapes", "CausalTrace.shapes",
    "CausalTrace.known", "Direction.shapes",
    "Curve.of", "Curve.shapes", "Faithfulness.of", "NoisingWindow.shapes", "PatchingDifference.panels",
    "ModuleResolver.attention_heads", "ModuleResolver.first_path", "ModuleResolver.head_count",
    "ModuleResolver.input_site", "ModuleResolver.layer", "ModuleResolver.module_site", "ModuleResolver.n_heads",
    "ModuleResolver.neuron_count", "ModuleResolver.path_of", "ModuleResolver.remarks", "ModuleResolver.visits",
    "LogitLens.shapes", "Patchscope.shapes", "PatchscopeMap.shapes",
    "PatchingResult.panels", "PathResult.shapes", "Screened.known", "Screened.shapes",
    "Trace.abandon", "Trace.read", "Trace.write", "errors.closest", "interventions.Intervention",
    "interventions.refuse_uncalled", "metrics.Metric", "metrics.MetricKind", "metrics.bind", "metrics.bind_all",
    "metrics.every_position", "metrics.floor", "metrics.name_of", "plotting.check_path", "plotting.save",
}  # fmt: skip


def _methods(name: str, cls: type) -> Iterator[tuple[str, Any]]:
    """The methods that a class adds; properties say what they are in a sentence (`test_house.py`)."""
    for inner, value in vars(cls).items():
        function = inspect.unwrap(value.__func__ if isinstance(value, (staticmethod, classmethod)) else value)
        if not inner.startswith("_") and inspect.isfunction(function):
            yield f"{name}.{inner}", function


def _public() -> dict[str, Any]:
    """Every function, class and method by its public name; a method that two classes share, by the first one."""
    named = {name: getattr(mlxtrace, name) for name in mlxtrace.__all__} | {"Trace": Trace}
    for module in (errors, facts, interactive, interventions, metrics, plotting, prompts):
        prefix = module.__name__.rsplit(".", 1)[-1]
        own = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        ]
        named |= {f"{prefix}.{name}": getattr(module, name) for name in getattr(module, "__all__", own)}
    found = {}
    for name, value in named.items():
        if inspect.isclass(value):
            found |= {name: value, **dict(_methods(name, value))}
        elif inspect.isfunction(inspect.unwrap(value)):
            found[name] = value
    seen: set[int] = set()
    for name, value in list(found.items()):
        if name in INSIDE or id(value) in seen:
            del found[name]
        seen.add(id(value))
    return found


PUBLIC = _public()


SECTIONS = ("Args:", "Returns:", "Raises:", "Example:")


def lacking(value: Any, elsewhere: str = "") -> list[str]:
    """What a docstring in mlx.nn's form has and this one has not.

    A method's example may stand in its class's docstring, given as `elsewhere`. Without parameters there is no
    need of "Returns:": the first sentence says what is given. A result may have "Attributes:" for "Args:", since
    users do not make it. An experiment's model is what it is called on.
    """
    text = inspect.getdoc(value) if value.__doc__ else None
    if not text:
        return ["docstring"]
    error = inspect.isclass(value) and issubclass(value, Exception)
    signature = inspect.Signature() if error else inspect.signature(value)
    bound = [p.name for p in signature.parameters.values() if "TracedModel" in str(p.annotation)]
    parameters = [p for p in signature.parameters if p not in ("self", "cls", *bound)]
    gives = parameters and not inspect.isclass(value) and str(signature.return_annotation) != "None"
    called = f">>> .*\\.{getattr(value, '__name__', '')}\\("
    first = text.split("\n\n")[0].rstrip()
    wanted = {
        "a sentence first": first.endswith((".", ":")) and not first.startswith(SECTIONS),
        "Args": "Args:" in text or "Attributes:" in text or not parameters,
        "Returns": "Returns:" in text or not gives,
        "Example": ">>>" in text or error or bool(re.search(called, elsewhere)),
    }
    missing = [name for name, there in wanted.items() if not there]
    if "Args:" in text:
        listed = text.partition("Args:")[2]
        missing += [
            f"Args: {name}" for name in parameters if f"{name}:" not in listed and f"{name}," not in listed
        ]
    return missing


def test_what_lacks_is_seen():
    def whole(a: int) -> int:
        """Twice a number.

        Args:
            a: any number.

        Returns:
            Two of it.

        Example:
            >>> 2 * 2
            4
        """
        return 2 * a

    assert not lacking(whole)
    text = whole.__doc__
    for part, name in (
        ("Twice a number.", "a sentence first"),
        ("Args:", "Args"),
        ("a: any", "Args: a"),
        ("Returns:", "Returns"),
        (">>>", "Example"),
    ):
        whole.__doc__ = text.replace(part, "")
        assert name in lacking(whole), name
        assert name not in lacking(whole, ">>> x.whole(2)") or name != "Example"
    assert "Example" in lacking(whole, ">>> x.other(2)")
    assert {"InterpretableModel.activation_patching", "interventions.scale", "facts.load"} <= set(PUBLIC)
    assert len(PUBLIC) > 60


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_say_what_they_take_and_give(name):
    home = PUBLIC.get(name.rpartition(".")[0])
    assert not lacking(PUBLIC[name], (home.__doc__ if home else None) or "")
