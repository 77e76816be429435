"""The tutorials run from top to bottom, offline, and leave their figures where they are told to."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIALS = Path(__file__).parents[1] / "tutorials"
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
SAID = {  # what the demo shows, and the comments say
    "01_tracing_and_editing": [
        "clean answer: ' Paris'",
        "last token's state from the Colosseum at layer 10: ' Rome'",
    ],
    "02_activation_patching": [
        "The clean prompt has 11 tokens",
        "restoring it recovers 100 %, corrupting it leaves 0 %",
    ],
    "03_causal_tracing": [
        "layer output: half of the effect or more at the last subject token in layers 0 to",
        "last layer, all tokens but the last: 0.0\n",
        "noise s10",
        "AverageTrace: 4 facts on demo",
        "the peak stayed where it was",
    ],
    "04_causal_mediation": [
        "whole layers, direct effects",
        "the last token carries half of the change from layer",
    ],
    "05_heads": [
        "strongest head by logit_diff: 17.8 %",
        "layer 5, head 1: the last token looks at 'ris' with 1.00",
        "v:  22.6 % (layer 5, head 0)",
        "    3     37.6 %    28.8 %       0.73",
        "corrupting one head leaves at least 100.0 %",
    ],
    "06_many_prompts": [
        "64 of 64 pairs are suitable",
        "last subject token: half of the answer or more, interval and all, in layers 0 to 4",
        "last token: half of the answer or more, interval and all, in layers 6 to 11",
        "on average layer 5 fetches most",
        "a single pair: 'Naples is in the country of', corrupted 'Lyon is in the country of'",
        "this pair says layer 6, by 27",
        "paired by id over 10 pairs",
        "from a folder: True",
    ],
    "07_steering": [
        "'The Borghese Gallery is located in the city of': 'Rome.'; steered 'Paris.'",
        "Direction: layers.7.resid_post of demo",
        "Direction: layers.3.resid_post of demo",
        "the cities are told apart in 12 of 12 layers; the direction changes the answer from layer 5 on",
        "steered at the name in layer 3 / at the last token in layer 7",
        "'a landmark in the city of Rome.' / 'located in Paris.' / 'Paris is a landmark in the city of Rome.'",
        "'England.' / 'France.' / 'Paris.'",
        "steered at the name: France 10, Paris 0",
        "steered at the last token: France 0, Paris 10",
        "from its file: layers.3.resid_post True",
    ],
    "08_known_answers": [
        "layer 2: head 0: onlooker, head 3: lookup; 18 of 256 neurons have a rule",
        "2600 cells of 10 components, largest error: 0.0",
        "MLP of layer 2: written differently by up to 16, changes the logits by 0",
        "either one corrupted:   [100. 100. 100. 100.]",
        "two layers corrupted:   [100. 100. 100.   0.]",
        "k      2      atp: 2, 0, 16",
        "neurons that matter: 4",
        "exact: embed -> m0 +16.0, m0 -> a2.h3.v +16.0, a2.h3 -> m3 +16.0, m3 -> logits +16.0",
        "edges as the interpreter says: True",
        "question 1: embed -> a1.h0.v, a1.h0 -> m3",
    ],
    "09_a_circuit_from_nothing": [
        "next: ' fish'",
        "a0.h1            0.96                0.00",
        "16 of 16 pairs are suitable",
        "a0.h1 at C1    42.9 %",
        "a0.h1 at B1 and C1 by  atp:      1.5 %    -4.0 %",
        "a0.h1 -> a1.h3.k",
        "nine edges, on other pairs: faithfulness 0.99",
        "nine edges drawn at random, 20 times: 0.00 at most",
        "  embed -> a0.h1.v   1.00",
        "in both circuits: 4 edges",
    ],
}


def test_every_tutorial_is_run():
    assert sorted(p.stem for p in TUTORIALS.glob("*.py")) == sorted(FIGURES)


def in_a_process(script: Path) -> str:
    """What a script prints in a Python of its own, offline."""
    offline = {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg", "PYTHONPATH": str(TUTORIALS.parent)}
    command, env = [sys.executable, script, "figures"], {**os.environ, **offline}
    run = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("name", FIGURES)
def test_a_tutorial_runs(name, tmp_path, monkeypatch, capsys, copied_once, shipped_once):
    """The first in a process of its own, as users run them; the others here, where package and models are loaded."""
    monkeypatch.chdir(tmp_path)
    script = TUTORIALS / f"{name}.py"
    if name == min(FIGURES):
        said = in_a_process(script)
    else:
        monkeypatch.setattr(sys, "argv", [str(script), "figures"])
        runpy.run_path(str(script), run_name="__main__")
        said = capsys.readouterr().out
    for words in SAID[name]:
        assert words in said
    made = {p.name for p in (tmp_path / "figures").glob("*.png")}
    assert made == {f"{name[:2]}_{figure}.png" for figure in FIGURES[name]}
    assert [p.name for p in tmp_path.iterdir()] == ["figures"]  # and nothing beside them
