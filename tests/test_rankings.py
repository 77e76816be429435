"""Rankings from the command line: what reaches the experiments, what is printed, and the files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_runs import CLEAN, CORRUPTED, demo, empty_folder, loaded, run, trained  # noqa: F401

from mlxtrace import options, rankings
from mlxtrace.model import InterpretableModel
from mlxtrace.prompts import Pair

pytestmark = trained

ROME = ["--clean", "Paris is in the country of", "--corrupted", "Rio is in the country of"]
FEW = ["--verify", "8", "--audit", "6", "--layers", "4-5"]
PAIRS = [
    {"clean": CLEAN, "corrupted": CORRUPTED, "id": "eiffel"},
    {
        "clean": "The Eiffel Tower is in the city of",
        "corrupted": "The Colosseum is in the city of",
        "id": "short",
    },
]


def test_a_screen_is_that_of_the_model(loaded, capsys):
    files = ["--json", "s.json", "--csv", "s.csv", "--plot", "s.png"]
    asked = ["--screen", "head", *ROME, *FEW, "--metric", "logit_diff", "--direction", "noise", "--seed", "5"]
    out, err = run(capsys, *asked, "--positions", "last", *files)
    assert not err and "drawn at random (seed 5)" in out and '" France"' in out
    assert all(str(Path(name).resolve()) in out for name in ("s.json", "s.csv", "s.png"))
    direct = demo().screen(
        ROME[1], ROME[3], "head", 8, 6, layers=[4, 5], positions="last", metric="logit_diff", direction="noise",
        seed=5, progress=False,
    )  # fmt: skip
    rows = json.loads(Path("s.json").read_text())["rows"]
    assert rows == direct.to_rows() and len(rows) == len(Path("s.csv").read_text().splitlines()) - 1
    assert Path("s.png").stat().st_size > 5000


def test_by_itself_it_screens_the_neurons_of_the_bundled_fact(loaded, capsys):
    out, _ = run(capsys, "--screen", "--layers", "0", "--verify", "3", "--audit", "2", "--quiet")
    assert out.startswith("Screen: ") and "single MLP neurons" in out and "logit_diff" in out
    assert "position 4" in out and "whole" not in out  # every position by itself


def test_positions_together_and_until_the_top_is_stable(loaded, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(
        InterpretableModel, "screen", lambda self, *given, **more: asked.append(more) or 1 / 0
    )
    run(capsys, "--screen", "--positions", "all", "--until", "stable", "--engine", "flat", status=1)
    run(capsys, "--screen", *ROME, "--target", " France", "--max-memory", "1GB", status=1)
    first, second = asked
    assert (first["positions"], first["until"], first["engine"], first["metric"]) == (
        None,
        "stable",
        "flat",
        "logit_diff",
    )
    assert (second["positions"], second["metric"], second["target"]) == ("each", "auto", " France")
    assert (
        second["max_memory"] == 10**9 and not {"verify", "audit", "seed", "until", "engine"} & second.keys()
    )


@pytest.fixture(scope="module")
def circuit():
    args = options.read(["--edges", "eap", "--circuit", "40", *ROME, "--quiet"])
    return rankings.run(demo(), Pair(ROME[1], ROME[3]), None, args)


def test_a_circuit_is_measured_and_its_curve_printed(circuit):
    direct = demo().edges(ROME[1], ROME[3], method="eap", metric="logit_diff", progress=False)
    np.testing.assert_array_equal(circuit.result.kept, direct.circuit(40).kept)
    assert f"faithfulness {float(direct.circuit(40).faithfulness()):.4f}" in circuit.said
    assert "CPR" in circuit.said and "CMD" in circuit.said and "100%" in circuit.said


@pytest.mark.parametrize(
    ("name", "magic"), [("c.svg", b"<?xml"), ("c.dot", b"digraph"), ("c.GV", b"digraph")]
)
def test_a_circuit_is_drawn_or_written_for_graphviz(loaded, capsys, monkeypatch, circuit, name, magic):
    monkeypatch.setattr(rankings, "run", lambda *given: circuit)
    out, err = run(capsys, "--edges", "eap", "--circuit", "40", *ROME, "--plot", name, "--csv", "c.csv")
    assert Path(name).read_bytes().startswith(magic) and not err
    assert out.index("Circuit: ") < out.index("faithfulness 0.") < out.index("CPR") < out.index("figure: ")
    assert len(Path("c.csv").read_text().splitlines()) - 1 == circuit.result.n


def test_edges_of_many_pairs_with_what_was_dropped(loaded, capsys):
    Path("pairs.json").write_text(json.dumps([*PAIRS, {"clean": CLEAN, "corrupted": "Rome is nice"}]))
    out, err = run(capsys, "--edges", "eap", "--pairs", "pairs.json", "--json", "e.json")
    assert "over 2 pairs" in out and "2 of 3 pairs of pairs.json are suitable; dropped: 1" in out and not err
    direct = demo().edges([Pair(**pair) for pair in PAIRS], method="eap", progress=False)
    rows = json.loads(Path("e.json").read_text())["rows"]
    assert len(rows) == direct.n and rows[5] == direct.to_rows()[5] and "low" in rows[5]


def test_edges_are_exact_unless_they_are_to_be_estimated():
    assert options.read(["--edges"]).edges == "exact"
    asked = []

    class Recorded:
        def edges(self, *given, **more):
            asked.append(more)

    for argv in (["--edges", "--positions", "2,3"], ["--edges", "eap-ig", *ROME, "--metric", "kl"]):
        rankings.run(Recorded(), *ROME[1::2], options.read(argv))
    assert [(one["method"], one["metric"], one["positions"]) for one in asked] == [
        ("exact", "logit_diff", [2, 3]),
        ("eap-ig", "kl", None),
    ]


def test_estimates_have_the_options_of_patching(loaded, capsys):
    asked = ["--attribution", "atp*", "--component", "resid_post", "--layers", "0-2", "--positions", "each"]
    out, err = run(
        capsys,
        *asked,
        *ROME,
        "--metric",
        "logit_diff,prob",
        "--foil",
        " Brazil",
        "--json",
        "a.json",
        "--quiet",
    )
    assert out.startswith("Approximate (atp*)") and not err
    direct = demo().attribution_patching(
        ROME[1], ROME[3], "resid_post", layers=[0, 1, 2], positions="each", metric=["logit_diff", "prob"],
        foil=" Brazil", method="atp*", progress=False,
    )  # fmt: skip
    assert json.loads(Path("a.json").read_text())["rows"] == direct.to_rows()


class Recorded:
    """Keeps what its experiments are asked for."""

    def __init__(self):
        self.asked = []
        self.screen = self.attribution_patching = self.edges = self._called

    def _called(self, *given, **more):
        self.asked.append((given, more))
        return self

    def circuit(self, n):
        self.asked.append(n)
        return self

    def faithfulness(self):
        return 0.5

    curve = faithfulness


def test_every_option_is_handed_on():
    model, regions = (
        Recorded(),
        ["--positions", "regions", "--within", "last", "--heads", "1-2", "--layers", "3"],
    )
    for argv in (
        ["--attribution", "ig", "--component", "head", "--window", "3", *regions],
        ["--screen", "head", *regions],
        ["--edges", "eap", "--circuit", "7", "--foil", " Rome", "--max-memory", "1MB", *ROME],
    ):
        rankings.run(model, "pair", "noise", options.read(argv))
    (first, estimate), (_, screened), (_, edges), n = model.asked
    same = {"positions": "regions", "within": "last", "heads": [1, 2], "layers": [3], "progress": None}
    assert first == ("pair", "noise") and estimate.items() >= {**same, "window": 3, "method": "ig"}.items()
    assert screened.items() >= same.items() and estimate["component"] == screened["component"] == ["head"]
    assert (edges["foil"], edges["max_memory"], n) == (" Rome", 10**6, 7)


def test_the_first_pairs_and_noise_in_the_place_of_their_corrupted_prompts(loaded, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(rankings, "run", lambda *given: asked.append(given) or 1 / 0)
    Path("pairs.json").write_text(json.dumps([{**PAIRS[0], "subject": "Eiffel Tower"}, PAIRS[1]]))
    run(capsys, "--screen", "--pairs", "pairs.json", "--limit", "1", status=1)
    run(
        capsys,
        "--screen",
        "--pairs",
        "pairs.json",
        "--limit",
        "1",
        "--noise",
        "u2",
        "--samples",
        "3",
        status=1,
    )
    (_, one, plain, _), (_, noised, noise, _) = asked
    assert [pair.id for pair in one] == [pair.id for pair in noised] == ["eiffel"]
    assert plain is None and (noise.level, noise.samples) == ("u2", 3) and noised[0].corrupted is None
