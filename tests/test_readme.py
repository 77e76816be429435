"""The README is true: its examples run, print what they say, and its two commands work in a fresh clone."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import examples
import pytest

import mlxtrace
from mlxtrace import check, metrics, options, patch
from mlxtrace.anatomy.components import COMPONENTS

ROOT = Path(mlxtrace.__file__).parents[1]
README = ROOT / "README.md"
DEMO = ROOT / "mlxtrace" / "demo" / "model.safetensors"
trained = pytest.mark.skipif(not DEMO.is_file(), reason="the demo model is not trained")

pytestmark = pytest.mark.skipif(not README.is_file(), reason="installed without its README")


def blocks(language: str) -> list[str]:
    return examples.blocks(README, language)


def shell_lines() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines() if line.strip()]


def commands() -> list[list[str]]:
    """The lines that run a part of the package, as argument lists."""
    found = [shlex.split(line)[2:] for line in shell_lines() if line.startswith("python -m mlxtrace")]
    assert ["mlxtrace.check", "demo"] in found
    return [words for words in found if words != ["mlxtrace.check", "demo"]]  # test_check.py runs it, in CI


@trained
def test_the_examples_run_in_order_and_print_what_they_say(
    tmp_path, monkeypatch, capsys, copied_once, shipped_once
):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    found = examples.examples(README)
    assert len(found) >= 5
    for example in found:
        example.check(names, capsys)
    assert {"clean.safetensors", "mlp.pdf", "both.npz"} <= {path.name for path in tmp_path.iterdir()}


@trained
@pytest.mark.parametrize("command", commands(), ids=lambda c: " ".join(c)[:60])
def test_the_commands_run(command, tmp_path, monkeypatch, capsys, copied_once, shipped_once, undrawn):
    monkeypatch.chdir(tmp_path)
    module, *options = command
    main = {"mlxtrace.patch": patch.main, "mlxtrace.check": check.main}[module]
    assert main(options) == 0, capsys.readouterr().err
    for name in re.findall(r"\S+\.(?:png|csv|json|npz|pdf)", " ".join(options)):
        assert (tmp_path / name).stat().st_size > 0


def test_commands_inside_the_text_are_understood(tmp_path, monkeypatch):
    """Such as those that figures were made with, which take longer than a test should."""
    monkeypatch.chdir(tmp_path)
    found = re.findall(r"`python -m mlxtrace\.patch ([^`]+)`", README.read_text(encoding="utf-8"))
    assert any("many.png" in command for command in found)
    for command in found:
        options.read(shlex.split(command))


def test_what_is_to_be_installed_is_on_an_index():
    """This package is on none: its extras are installed in a clone, and messages name the package that is missing."""
    pages = [README, *ROOT.glob("docs/**/*.md"), *ROOT.glob("mlxtrace/**/*.py")]
    assert not [
        page for page in pages if re.search(r"install\s+[\"']?mlxtrace", page.read_text(encoding="utf-8"))
    ]


def test_the_first_two_shell_lines_are_the_two_commands():
    run, test = shell_lines()[:2]
    for line in (run, test):
        steps = line.split(" && ")
        assert steps[0] == "python3 -m venv .venv" and len(steps) == 3
        assert steps[1].startswith(".venv/bin/pip install -q ")
    assert run.endswith(".venv/bin/python -m mlxtrace.patch")
    assert test.endswith(".venv/bin/python -m pytest")


def test_ci_calls_the_test_command():
    """CI takes the second shell line of the README, with the same awk that is run here."""
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    taken = re.search(r"command=\$\((awk .*)\)", ci)[1]
    found = subprocess.run(["bash", "-c", taken], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == shell_lines()[1]


def test_every_component_and_metric_is_named():
    text = README.read_text(encoding="utf-8")
    missing = [name for name in (*COMPONENTS, *metrics.METRICS) if f"`{name}`" not in text]
    assert not missing


def test_links_and_pictures_are_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert (ROOT / target).is_file(), target


@pytest.mark.heavy
def test_the_two_commands_in_a_fresh_clone(tmp_path):
    """Both, one after the other in the same clone, each within five minutes."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout, so there is nothing to clone")
    clone = tmp_path / "mlxtrace"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTEST_ADDOPTS")}
    for line in shell_lines()[:2]:
        done = subprocess.run(
            line, shell=True, cwd=clone, env=env, timeout=300, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (clone / "mlxtrace-patch.png").is_file()
    shutil.rmtree(clone)
