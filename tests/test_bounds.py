"""The lower bounds in `pyproject.toml` are versions with which the quick tests of every room pass."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "pyproject.toml"
# Each room's folder but `identities`, which takes long; of the laws and of the top, what computes something.
CHOSEN = [
    "tests/text",
    "tests/anatomy",
    "tests/forward",
    "tests/engine",
    "tests/experiments",
    "tests/results",
    "tests/plotting",
    "tests/prompts",
    "tests/test_interventions.py",
    "tests/test_metrics.py",
    "tests/test_model.py",
    "tests/test_readme.py",
    "tests/storage",
]

pytestmark = pytest.mark.skipif(not PROJECT.is_file(), reason="installed without its pyproject.toml")


def bounds() -> dict[str, str]:
    """Each direct dependency's least version, those of the test extra included."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    given = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    found = [re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", line) for line in given]
    assert all(found), "each dependency has a lower bound"
    return {match[1]: match[2] for match in found}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def test_all_that_is_imported_is_declared():
    """Whatever the package imports comes with Python, with the package, or with a direct dependency."""
    declared = {name.replace("-", "_") for name in bounds()} | {"mlxtrace"}
    demo = {"tokenizers"}  # the demo's training script, with mlx-lm's own tokenizers
    files = (ROOT / "mlxtrace").rglob("*.py")
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {
        node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }
    foreign = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert foreign - demo <= declared


def test_pythons_bound_is_what_ruff_takes_and_ci_has():
    text = PROJECT.read_text()
    least = re.search(r'requires-python = ">=3\.(\d+)"', text)[1]
    assert f'target-version = "py3{least}"' in text
    assert f"Programming Language :: Python :: 3.{least}" in text
    assert f"Python 3.{least} or newer" in (ROOT / "README.md").read_text()
    workflow = ROOT / ".github" / "workflows" / "tests.yml"
    assert f'python-version: "3.{least}"' in workflow.read_text()


@pytest.mark.heavy
def test_the_quick_tests_pass_with_the_oldest_versions(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "VIRTUAL_ENV"))}
    env |= {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", "MPLCONFIGDIR": str(tmp_path / "fonts")}
    python = str(tmp_path / "oldest" / "bin" / "python")

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
        return done.stdout

    uv = [sys.executable, "-m", "uv"]
    run(*uv, "venv", "-q", "--python", sys.executable, str(tmp_path / "oldest"))
    options = ["-q", "--python", python, "--resolution", "lowest-direct", "--extra", "test"]
    run(*uv, "pip", "install", *options, "-r", str(PROJECT))
    listed = json.loads(run(*uv, "pip", "list", "-q", "--python", python, "--format", "json"))
    installed = {entry["name"]: entry["version"] for entry in listed}
    for name, bound in bounds().items():
        wanted = _numbers(bound)
        assert _numbers(installed[name])[: len(wanted)] == wanted, f"{name} {bound} cannot be had: raise it"
    run(python, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *CHOSEN)
