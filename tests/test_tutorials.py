"""The tutorials run from top to bottom, offline: as scripts, as notebooks, on the models they are about and on others.

What a tutorial claims, it computes and asserts itself; the words below are what the demo's circuit makes of it.
"""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import models
import pytest

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "tutorials"
FIGURES = {
    "01_tracing_and_editing": ["norms"],
    "02_activation_patching": ["states", "mlp_and_attention", "windows", "heads", "necessity", "noise"],
    "03_causal_tracing": ["states", "three_kinds", "severed", "average", "average_lines"],
    "04_causal_mediation": ["mlp", "attention", "information_flow", "noising_window", "noising_mlp_window"],
    "05_heads": ["heads", "moving_heads", "patterns"],
    "06_many_prompts": ["states", "fetching", "two_corruptions"],
    "07_steering": ["layers", "dose"],
    "08_known_answers": ["estimates"],
    "09_a_circuit_from_nothing": ["patterns", "paths", "circuit", "curve"],
}
CLAIMS = {name: n for name, n in zip(FIGURES, (7, 17, 18, 11, 14, 15, 13, 26, 14), strict=True)}
SAID = {  # what the demo shows, and the text says
    "01_tracing_and_editing": [
        "clean answer: ' Paris'",
        "last token's state from the Colosseum at layer 10: ' Rome'",
        "holds: the answer changes once, from ' Paris' to ' Rome'",
    ],
    "02_activation_patching": [
        "The clean prompt has 11 tokens",
        "restored it recovers 100 %, corrupted it leaves 0 %",
        "enough, and not needed: ' Tower' after layer 5, ' of' after layer 5",
    ],
    "03_causal_tracing": [
        "layer output: half of the effect or more at ' Tower' in [0, 1, 2, 3, 4, 5]",
        "inside the name noise says up to 65 %, another subject 0 %",
        "noise s10",
        "AverageTrace: 3 facts on demo",
        "the peak stayed where it was",
    ],
    "04_causal_mediation": [
        "whole layers, direct effects",
        "attention of layer 6: 0.002 through it alone, 0.156 left without it, of 0.967",
        "needed, not enough: 'io' after layer 5, ' of' after layer 5",
    ],
    "05_heads": [
        "the strongest head brings back 17.8 % of logit_diff",
        "head 1 of layer 5 looks from ' of' at 'ris': 1.00",
        "v:  22.6 % (layer 5, head 0)",
        "    3     37.6 %    28.8 %       0.73",
        "any head corrupted leaves 98.5 % of the answer's probability",
    ],
    "06_many_prompts": [
        "64 of 64 pairs are suitable",
        "last subject token: half of the answer or more, interval and all, in layers [0, 1, 2, 3, 4]",
        "on average layer 5 fetches most",
        "a single pair: 'Naples is in the country of', corrupted 'Lyon is in the country of'",
        "it says layer 6, by 27",
        "paired by id over 10 pairs",
        "holds: from a folder: the same numbers",
    ],
    "07_steering": [
        "'The Borghese Gallery is located in the city of': 'Rome.'; steered 'Paris.'",
        "Direction: layers.7.resid_post of demo",
        "Direction: layers.3.resid_post of demo",
        "the cities are told apart in 6 of 6 layers",
        "the direction changes the answer in layers [5, 7, 9, 11]",
        "'a landmark in the city of Rome.' / 'located in Paris.' / 'Paris is a landmark in the city of Rome.'",
        "'England.' / 'France.' / 'Paris.'",
        "steered at the name: France 10, Paris 0",
        "steered at the last token: France 0, Paris 10",
    ],
    "08_known_answers": [
        "layer 2: head 0: onlooker, head 3: lookup; 18 of 256 neurons have a rule",
        "2600 cells of 10 components, largest error: 0.0",
        "MLP of layer 2: written differently by up to 16, changes the logits by 0",
        "either one corrupted: [100. 100. 100. 100.]",
        "two layers corrupted: [100. 100. 100.   0.]",
        "k      2      atp: 2, 0, 16",
        "neurons that matter: 4",
        "exact: embed -> m0 +16.0, m0 -> a2.h3.v +16.0, a2.h3 -> m3 +16.0, m3 -> logits +16.0",
        "holds: they are edges of the interpreter",
        "question 1: embed -> a1.h0.v, a1.h0 -> m3",
    ],
    "09_a_circuit_from_nothing": [
        "comes ' fish'",
        "a0.h1            0.96                0.00",
        "16 of 16 pairs are suitable",
        "a0.h1 at C1    42.9 %",
        "a0.h1 at B1 and C1 by  atp:      1.5 %    -4.0 %",
        "a0.h1 -> a1.h3.k",
        "nine edges, on other pairs: faithfulness 0.99",
        "nine edges drawn at random, 20 times, carry 0.00 at most",
        "  embed -> a0.h1.v   1.00",
        "in both circuits: 4 edges",
    ],
}


def test_every_tutorial_is_run():
    assert sorted(p.stem for p in TUTORIALS.glob("*.py")) == sorted(FIGURES)


def in_a_process(script: Path) -> str:
    """What a script prints in a Python of its own, offline."""
    offline = {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
    command, env = [sys.executable, script, "figures"], {**os.environ, **offline}
    run = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert run.returncode == 0, run.stderr
    return run.stdout


def here(script: Path, monkeypatch, *arguments: object) -> None:
    """Runs a script in this process. One that cannot go on with a model ends itself, with status 0."""
    monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        assert not end.code


# CI runs these where it builds the manual, which executes every tutorial.
LONG = {
    "02_activation_patching", "03_causal_tracing", "04_causal_mediation", "05_heads", "06_many_prompts", "07_steering",
    "08_known_answers", "09_a_circuit_from_nothing",
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.heavy] if n in LONG else []) for n in FIGURES]
)
def test_a_tutorial_runs(name, tmp_path, monkeypatch, capsys, copied_once, shipped_once):
    """The first in a process of its own, as users run them; the others here, where package and models are loaded."""
    monkeypatch.chdir(tmp_path)
    script = TUTORIALS / f"{name}.py"
    if name == min(FIGURES):
        said = in_a_process(script)
    else:
        here(script, monkeypatch, "figures")
        said = capsys.readouterr().out
    for words in SAID[name]:
        assert words in said
    assert said.count("holds: ") == CLAIMS[name]  # none was skipped, and none does not hold
    assert "skipped" not in said
    made = {p.name for p in (tmp_path / "figures").glob("*.png")}
    assert made == {f"{name[:2]}_{figure}.png" for figure in FIGURES[name]}
    assert [p.name for p in tmp_path.iterdir()] == ["figures"]  # and nothing beside them


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.heavy] if n == "07_steering" else []) for n in FIGURES]
)
def test_a_tutorial_ends_well_on_a_model_that_knows_nothing(
    name, llama_folder, tmp_path, monkeypatch, capsys, undrawn
):
    """What does not hold there, or cannot be asked, it says."""
    here(TUTORIALS / f"{name}.py", monkeypatch, tmp_path, llama_folder)
    said = capsys.readouterr().out
    assert re.search(r"does not hold here: |skipped", said)
    assert "Traceback" not in said


@pytest.mark.heavy
@pytest.mark.parametrize("architecture", [*models.NAMES, "demo", "induction", "compiled"])
def test_the_tutorials_end_well_on_any_model(architecture, tmp_path, monkeypatch, capsys, undrawn):
    bundled = architecture in ("demo", "induction", "compiled")
    model = architecture if bundled else models.save_folder(tmp_path / "model", architecture)
    for name in FIGURES:
        here(TUTORIALS / f"{name}.py", monkeypatch, tmp_path / "figures", model)
        assert capsys.readouterr().out


# ---- notebooks, and pages of the manual


def as_hook():
    """The file that mkdocs takes as a hook."""
    return runpy.run_path(str(ROOT / "docs" / "tutorial_pages.py"))


@pytest.mark.parametrize("name", FIGURES)
def test_a_tutorial_is_a_notebook_and_stays_the_same_when_one_saves_it(name):
    jupytext = pytest.importorskip("jupytext")
    text = (TUTORIALS / f"{name}.py").read_text()
    notebook = jupytext.reads(text, fmt="py:percent")
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == "markdown" and notebook.cells[0].source.startswith(f"# Tutorial {int(name[:2])}: ")
    assert kinds.count("markdown") > 5 < kinds.count("code")
    assert jupytext.writes(notebook, fmt="py:percent") == text
    headings = re.findall(r"^## (\d+)\. ", "\n".join(cell.source for cell in notebook.cells), re.M)
    assert headings == [str(i + 1) for i in range(len(headings))]
    # a figure is shown where it is the last line of a cell
    shown = [c.source for c in notebook.cells if c.cell_type == "code" and re.search(r"\.png\b", c.source)]
    assert len(shown) >= len(FIGURES[name])


def test_pages_show_code_text_and_figures_of_what_ran():
    pytest.importorskip("jupytext")
    hook = as_hook()
    pages = hook["made"](run=False)
    assert {path for path in pages if path.endswith(".md")} == {
        "tutorials/index.md", *(f"tutorials/{name}.md" for name in FIGURES)
    }  # fmt: skip
    text = pages["tutorials/02_activation_patching.md"]
    assert text.startswith("# Tutorial 2: ") and "```python\nstates = model.activation_patching(" in text
    printed = {"output_type": "stream", "name": "stdout", "text": "1 | 2\n"}
    assert hook["shown"](printed, "a.png") == ("``` {.text .output}\n1 | 2\n```", None)
    drawn = {"output_type": "execute_result", "data": {"image/png": "aGk=", "text/plain": "<Figure>"}}
    assert hook["shown"](drawn, "a.png") == ("![What the cell above draws](a.png)", b"hi")


@pytest.mark.heavy
def test_a_tutorial_runs_as_a_notebook_and_its_page_has_its_figures():
    """In a fresh kernel, with no arguments: its own."""
    for module in ("jupytext", "nbclient", "ipykernel"):
        pytest.importorskip(module)
    name = "05_heads"
    files = as_hook()["made"]([TUTORIALS / f"{name}.py"])
    page = files[f"tutorials/{name}.md"]
    figures = [path for path in files if path.endswith(".png")]
    assert len(figures) == len(FIGURES[name]) and all(files[path].startswith(b"\x89PNG") for path in figures)
    assert all(f"({path.removeprefix('tutorials/')})" in page for path in figures)
    for words in SAID[name]:
        assert words in page
    assert len(re.findall(r"^ *holds: ", page, re.M)) == CLAIMS[name]
