"""The command line: what it prints and writes, and the one line that every bad input gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import mlxtrace
from mlxtrace import GaussianNoise, InterpretableModel, options, patch, prompts
from mlxtrace.experiments import pairs
from mlxtrace.prompts import Pair
from mlxtrace.text import tokens

ROOT = Path(mlxtrace.__file__).parents[1]
DEMO = ROOT / "mlxtrace" / "demo" / "model.safetensors"
pytestmark = pytest.mark.skipif(not DEMO.is_file(), reason="the demo model is not trained")

CLEAN, CORRUPTED = "The Eiffel Tower is located in the city of", "The Colosseum is located in the city of"
PAIR = ["--clean", CLEAN, "--corrupted", CORRUPTED]
NOISE = ["--clean", CLEAN, "--subject", "Eiffel Tower", "--noise", "s3"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Each run starts in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def loaded(monkeypatch):
    """The demo, loaded once for all runs in this process; the list counts how often it was asked for."""
    asked: list[str] = []

    def load(name, dtype=None):
        asked.append(name)
        return _demo() if (name, dtype) == ("demo", None) else InterpretableModel(name, dtype=dtype)

    monkeypatch.setattr(patch, "InterpretableModel", load)
    return asked


def _demo(kept=[]):  # noqa: B006
    if not kept:
        kept.append(InterpretableModel("demo"))
    return kept[0]


def run(capsys, *argv: str, status: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert patch.main(argv) == status, capsys.readouterr().err
    return capsys.readouterr()


# ---- what it prints and writes


def test_the_bare_run_prints_receipt_table_and_sentence_and_draws(loaded, capsys):
    out, err = run(capsys)
    assert "' Tower'    *" in out and "11 tokens; * marks the subject" in out
    assert 'clean:     The Eiffel Tower is located in the city of → " Paris" ' in out
    assert 'corrupted: The Colosseum is located in the city of → " Rome" ' in out
    table = [
        line.split()
        for line in out.splitlines()
        if line.strip() and line.split()[0].isdigit() and "█" in line
    ]
    assert {int(row[0]) for row in table} <= set(range(12)) and len(table) >= 6
    assert 'at the last subject token " Tower"' in " ".join(out.split())
    assert 'at the last token " of"' in " ".join(out.split())
    assert f"figure: {Path.cwd() / options.FIGURE}" in out
    assert Path(options.FIGURE).read_bytes().startswith(b"\x89PNG")
    assert "planted" in out and not err


def test_the_command_that_the_bare_run_recommends_gives_the_same_table(loaded, capsys):
    import shlex

    out, _ = run(capsys)
    line = next(line for line in out.splitlines() if line.startswith("The same table: "))
    again, _ = run(capsys, *shlex.split(line.split("mlxtrace.patch", 1)[1]))
    start = out.index("Restoring the MLP")
    table = out[start : out.index("\n\nRestores most")]
    assert table in again


def test_files_are_written_and_agree_with_each_other(loaded, capsys):
    files = ["--json", "r.json", "--csv", "r.csv", "--plot", "r.svg"]
    out, _ = run(capsys, *PAIR, *files, "--metric", "logit_diff,kl", "--positions", "each")
    assert all(str(Path(name).resolve()) in out for name in ("r.json", "r.csv", "r.svg"))
    rows = json.loads(Path("r.json").read_text())["rows"]
    lines = Path("r.csv").read_text().splitlines()
    assert len(rows) == len(lines) - 1 == 2 * 12 * 11
    assert set(lines[0].split(",")) == set(rows[0])
    assert "<svg" in Path("r.svg").read_text()
    direct = _demo().activation_patching(
        CLEAN, CORRUPTED, component=["mlp", "attn"], metric=["logit_diff", "kl"], positions="each"
    )
    assert rows == direct.to_rows()


@pytest.mark.parametrize(("name", "magic"), [("f.png", b"\x89PNG"), ("f.pdf", b"%PDF"), ("F.SVG", b"<?xml")])
def test_figures_by_suffix(loaded, capsys, name, magic):
    run(capsys, *PAIR, "--layers", "0-3", "--plot", name)
    assert Path(name).read_bytes().startswith(magic)


def test_the_same_command_gives_the_same_bytes(loaded, capsys):
    asked = [*NOISE, "--samples", "4", "--seed", "7", "--positions", "subject_last"]
    for name in ("a", "b"):
        run(capsys, *asked, "--json", f"{name}.json", "--csv", f"{name}.csv", "--quiet")
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
    run(capsys, *asked[:-4], "--seed", "8", "--positions", "subject_last", "--csv", "c.csv", "--quiet")
    assert Path("c.csv").read_bytes() != Path("a.csv").read_bytes()


@pytest.mark.parametrize("argv", [(), (*PAIR, "--positions", "each"), NOISE], ids=["bare", "each", "noise"])
def test_a_plan_runs_nothing_and_writes_nothing(loaded, capsys, monkeypatch, argv):
    from mlxtrace.engine import sweep

    monkeypatch.setattr(sweep.Sweep, "run", lambda *a, **k: pytest.fail("the sweep ran"))
    out, _ = run(capsys, *argv, "--plan")
    assert "cells" in out and "passes" in out and "nothing was run" in out
    assert not list(Path.cwd().iterdir())


def test_quiet_prints_the_table_and_nothing_else(loaded, capsys):
    out, err = run(capsys, "--quiet")
    assert out.startswith("Restoring the MLP output and attention output") and not err
    assert "figure" not in out and "Restores most" not in out and not list(Path.cwd().iterdir())


def test_negative_recoveries_have_bars_of_their_own(loaded, capsys):
    out, _ = run(capsys, *PAIR, "--component", "resid_mid", "--foil", " London", "--metric", "l2,logit_diff")
    everything, _ = run(
        capsys, *PAIR, "--component", "attn", "--layers", "1-3,9-11", "--metric", "logit_diff"
    )
    assert "-" in everything and "▒" in everything, everything
    assert "resid_mid" in out


def test_options_reach_the_experiment(loaded, capsys):
    out, _ = run(
        capsys, *PAIR, "--component", "head", "--heads", "each", "--layers", "4-6", "--positions", "last",
        "--metric", "logit_diff", "--target", " Paris", "--foil", " Rome", "--direction", "noise",
        "--engine", "loop", "--max-memory", "1GB", "--json", "h.json",
    )  # fmt: skip
    found = json.loads(Path("h.json").read_text())
    assert found["dims"] == ["layer", "head"] and found["coords"]["layer"] == [4, 5, 6]
    assert found["direction"] == "noise" and found["plan"]["engine"] == "loop"
    assert found["foil"]["text"] == " Rome" and "Breaks most" in out


def test_positions_and_answers_as_numbers(loaded, capsys):
    token = _demo().answer_token(" Paris", CLEAN)
    run(capsys, *PAIR, "--positions", "2-4", "--target", f"id:{token}", "--json", "a.json", "--quiet")
    run(capsys, *PAIR, "--positions", "subject", "--json", "b.json", "--quiet")
    a, b = (json.loads(Path(f"{x}.json").read_text()) for x in "ab")
    assert a["rows"] == b["rows"]
    run(capsys, *PAIR, "--positions", "-1", "--json", "c.json", "--quiet")
    run(capsys, *PAIR, "--positions", "last", "--json", "d.json", "--quiet")
    c, d = (json.loads(Path(f"{x}.json").read_text()) for x in "cd")
    assert c["rows"] == d["rows"]


def test_a_pair_with_the_same_answer_gets_its_note_once(loaded, capsys):
    out, err = run(capsys, "--clean", CLEAN, "--corrupted", CLEAN.replace("Eiffel Tower", "Louvre Museum"))
    assert (out + err).count("has the same answer") == 1
    assert "UserWarning" not in out + err and "kl" in out


def test_prompts_of_different_lengths_can_be_aligned_at_their_ends(loaded, capsys):
    other = ["--clean", "The Eiffel Tower is located in", "--corrupted", "Notre-Dame is located in"]
    _, err = run(capsys, *other, status=2)
    assert "clean" in err and "'fel'" in err and 'align="ends"' in err and err.count("\n") > 5
    run(capsys, *other, "--align", "ends", "--metric", "kl")


@pytest.mark.parametrize("kind", ["block", "mlp", "attn"])
def test_a_causal_trace(loaded, capsys, kind):
    asked = ["--prompt", CLEAN, "--subject", "Eiffel Tower", "--kind", kind, "--samples", "3", "--seed", "2"]
    out, _ = run(capsys, *asked, "--noise", "s3", "--plot", "t.png", "--json", "t.json", "--csv", "t.csv")
    assert "Paris" in out and Path("t.png").stat().st_size > 1000
    assert json.loads(Path("t.json").read_text())
    first = Path("t.csv").read_bytes()
    run(capsys, *asked, "--csv", "t.csv", "--quiet")
    assert Path("t.csv").read_bytes() == first


def test_a_plan_of_a_causal_trace(loaded, capsys):
    out, _ = run(capsys, "--prompt", CLEAN, "--subject", "Eiffel Tower", "--plan", "--positions", "subject")
    assert "cells       36" in out and "nothing was run" in out


def test_facts_are_traced_averaged_and_resumed(loaded, capsys, monkeypatch):
    asked = [
        "--facts",
        "demo",
        "--out",
        "traces",
        "--limit",
        "2",
        "--samples",
        "2",
        "--kind",
        "mlp",
        "--window",
        "3",
    ]
    out, _ = run(capsys, *asked, "--plan")
    assert "2 facts, 1 traces of each" in out and not Path("traces").exists()
    out, _ = run(capsys, *asked)
    assert "last subject token" in out and str(Path("traces").resolve()) in out
    assert {"average.csv", "average.png", "settings.json"} <= {path.name for path in Path("traces").iterdir()}
    before = Path("traces/average.csv").read_bytes()
    from mlxtrace.prompts import running

    monkeypatch.setattr(running, "causal_trace", lambda *a, **k: pytest.fail("a fact was traced again"))
    run(capsys, *asked, "--quiet")
    assert Path("traces/average.csv").read_bytes() == before
    _, err = run(capsys, *asked, "--seed", "9", status=2)
    assert "other settings" in err and err.count("\n") == 1


# ---- what it refuses: (what is wrong, the arguments, words of the line)

EACH = [*PAIR, "--positions", "each"]
BEFORE_LOADING = [
    ("an unknown option", ["--frobnicate"], "--frobnicate"),
    ("a stray word", ["mlp"], "mlp"),
    ("an option without value", ["--clean"], "--clean"),
    ("an abbreviated option", ["--compo", "mlp"], "--compo"),
    ("no corrupted prompt", ["--clean", CLEAN], "--corrupted"),
    ("no clean prompt", ["--corrupted", CORRUPTED], "--clean"),
    ("two corruptions", [*PAIR, "--noise", "s3", "--subject", "Eiffel Tower"], "two ways"),
    ("noise on nothing", ["--noise", "s3"], "--prompt"),
    ("noise without a subject", ["--clean", CLEAN, "--noise", "s3"], "--subject"),
    ("a trace without a subject", ["--prompt", CLEAN], "--subject"),
    ("a kind without a prompt", ["--kind", "mlp", "--subject", "Eiffel Tower"], "--prompt"),
    ("a kind of patching", [*PAIR, "--kind", "mlp"], "--clean"),
    ("a component of a trace", ["--prompt", CLEAN, "--subject", "x", "--component", "mlp"], "--component"),
    ("a clean prompt beside a prompt", ["--prompt", CLEAN, "--subject", "x", "--clean", "y"], "--clean"),
    ("a window of layer outputs", ["--prompt", CLEAN, "--subject", "x", "--window", "3"], "--kind"),
    ("a folder without facts", ["--out", "here"], "--facts"),
    ("facts without a folder", ["--facts", "known.json"], "--out"),
    ("facts with a prompt", ["--facts", "f.json", "--out", "o", "--clean", CLEAN], "--clean"),
    ("a limit of nothing", ["--limit", "3"], "--limit needs --pairs or --facts"),
    ("a limit of a pair", [*PAIR, "--limit", "3"], "--limit needs --pairs or --facts"),
    ("a limit of 0", ["--pairs", "ioi", "--limit", "0"], "--limit"),
    ("pairs and facts", ["--pairs", "ioi", "--facts", "demo", "--out", "o"], "--facts does not go with --pairs"),
    ("pairs and a pair", ["--pairs", "ioi", *PAIR], "--clean does not go with --pairs"),
    ("pairs and a prompt", ["--pairs", "ioi", "--prompt", CLEAN], "--prompt does not go with --pairs"),
    ("a subject of pairs", ["--pairs", "ioi", "--subject", "x"], "--subject does not go with --pairs"),
    ("an answer of pairs", ["--pairs", "ioi", "--target", " x"], "--target does not go with --pairs"),
    ("a kind of pairs", ["--pairs", "ioi", "--kind", "mlp"], "--kind does not go with --pairs"),
    ("bits of pairs", ["--pairs", "ioi", "--compare-bits", "4"], "--compare-bits does not go with --pairs"),
    ("an alignment of pairs", ["--pairs", "ioi", "--align", "ends"], "--align does not go with --pairs"),
    ("samples of pairs without noise", ["--pairs", "ioi", "--samples", "3"], "--noise"),
    ("a file of pairs that is not there", ["--pairs", "absent.json"], "absent.json"),
    ("pairs of nothing", ["--pairs", ""], "greater_than"),
    ("a task that is unknown", ["--pairs", "ioii"], "ioii"),
    ("a folder that is a file", ["--pairs", "ioi", "--out", __file__], "test_patch.py"),
    ("a way within no region", [*PAIR, "--within", "last"], "--positions regions"),
    ("regions of a trace", ["--prompt", CLEAN, "--subject", "x", "--positions", "regions"], "regions"),
    ("nothing to corrupt by itself", ["--corrupted", "auto"], "--clean"),
    ("no known subject", ["--clean", "Tokyoites like", "--corrupted", "auto"], "has no subject"),
    ("the end of a word", ["--clean", "NeoTokyo is in", "--corrupted", "auto"], "has no subject"),
    ("two known subjects", ["--clean", "The Eiffel Tower and the Colosseum are", "--corrupted", "auto"], "are several"),
    ("a file of facts that is not there", ["--facts", "absent.json", "--out", "out"], "absent.json"),
    ("samples of nothing", [*PAIR, "--samples", "3"], "--noise"),
    ("an unknown component", [*PAIR, "--component", "mpl"], "mlp"),
    ("an empty component", [*PAIR, "--component", "mlp,"], "empty"),
    ("a component twice", [*PAIR, "--component", "attn,self_attn"], "different"),
    ("an unknown metric", [*PAIR, "--metric", "logitdiff"], "logit_diff"),
    ("an unknown position", [*PAIR, "--positions", "subjct"], "subject"),
    ("positions that are no numbers", [*PAIR, "--positions", "1;2"], "1;2"),
    ("layers that are no numbers", [*PAIR, "--layers", "first"], "first"),
    ("a range backwards", [*PAIR, "--layers", "5-2"], "5-2"),
    ("heads that are no numbers", [*PAIR, "--component", "head", "--heads", "all"], "all"),
    ("a window of 0", [*PAIR, "--window", "0"], "--window"),
    ("half a window", [*PAIR, "--window", "1.5"], "--window"),
    ("negative samples", [*NOISE, "--samples", "-3"], "--samples"),
    ("a negative seed", [*NOISE, "--seed", "-1"], "seed"),
    ("a seed in words", [*NOISE, "--seed", "one"], "--seed"),
    ("an unknown noise level", [*NOISE[:-1], "strong"], "strong"),
    ("a negative noise level", [*NOISE[:-2], "--noise=-3"], "-3"),
    ("an empty subject", [*NOISE[:2], "--subject", " ", "--noise", "s3"], "subject"),
    ("an unknown direction", [*PAIR, "--direction", "up"], "denoise"),
    ("an unknown alignment", [*PAIR, "--align", "middle"], "ends"),
    ("an unknown engine", [*PAIR, "--engine", "fast"], "fanout"),
    ("an unknown kind", ["--prompt", CLEAN, "--subject", "x", "--kind", "head"], "attn"),
    ("an unknown dtype", [*PAIR, "--dtype", "int8"], "float32"),
    ("memory without a unit", [*PAIR, "--max-memory", "2 hundred"], "2GB"),
    ("no memory", [*PAIR, "--max-memory", "0"], "2GB"),
    ("a figure of an unknown type", [*PAIR, "--plot", "map.gif"], ".png"),
    ("a figure without a type", [*PAIR, "--plot", "map"], ".png"),
    ("a figure in no folder", [*PAIR, "--plot", "nowhere/map.png"], "nowhere"),
    ("a table in no folder", [*PAIR, "--csv", "nowhere/a.csv"], "nowhere"),
    ("a folder as a file", [*PAIR, "--json", "."], "folder"),
    ("JSON by another name", [*PAIR, "--json", "a.txt"], ".json"),
    ("a file of a plan", [*PAIR, "--plan", "--csv", "a.csv"], "--plan"),
]  # fmt: skip

WITH_THE_MODEL = [
    ("a layer past the end", [*PAIR, "--layers", "12"], "12"),
    ("a layer twice", [*PAIR, "--layers", "1,1"], "once"),
    ("a position past the end", [*PAIR, "--positions", "11"], "11"),
    ("a position twice", [*PAIR, "--positions", "3,3"], "twice"),
    ("a head past the end", [*PAIR, "--component", "head", "--heads", "8"], "8"),
    ("heads of an MLP", [*PAIR, "--component", "mlp", "--heads", "1"], "head"),
    ("heads beside an MLP", [*PAIR, "--component", "mlp,head"], "two calls"),
    ("a subject that is not there", [*PAIR, "--subject", "Louvre"], "Louvre"),
    ("a subject in other letters", [*PAIR, "--subject", "eiffel tower"], "other letters"),
    ("an empty subject of a pair", [*PAIR, "--subject", ""], "empty"),
    ("a noised subject that is not there", [*NOISE[:2], "--subject", "Rome", "--noise", "1"], "Rome"),
    ("the same prompts", ["--clean", CLEAN, "--corrupted", CLEAN], "same"),
    ("an empty prompt", ["--clean", "", "--corrupted", CORRUPTED], "empty"),
    ("prompts of different lengths", ["--clean", CLEAN, "--corrupted", "Rio is in"], "tokens"),
    ("an answer without its space", [*PAIR, "--target", "Paris"], "' Paris'"),
    ("an empty answer", [*PAIR, "--target", ""], "empty"),
    ("a token that does not exist", [*PAIR, "--target", "id:999999"], "999999"),
    ("an answer as its own foil", [*PAIR, "--metric", "logit_diff", "--foil", " Paris"], "foil"),
    ("noise that moves nothing", [*NOISE[:-1], "0"], "0"),
    ("a metric that hardly moves", [*NOISE[:-1], "0", "--metric", "prob"], "prob"),
    ("a traced subject that is not there", ["--prompt", CLEAN, "--subject", "Louvre"], "Louvre"),
    ("a traced position past the end", ["--prompt", CLEAN, "--subject", "Eiffel", "--positions", "40"], "40"),
    ("too little memory", [*EACH, "--max-memory", "1KB"], "max_memory"),
    ("a folder that does not exist", ["--model", "./nowhere", *PAIR], "./nowhere"),
    ("a name that is no name", ["--model", "nothing", *PAIR], "owner/name"),
    ("an empty name", ["--model", "", *PAIR], "empty"),
    ("a folder that holds no model", ["--model", ".", *PAIR], "config.json"),
]  # fmt: skip


def ids(cases):
    return [case[0] for case in cases]


def refused(capsys, argv: list[str]) -> str:
    _, err = run(capsys, *argv, status=2)
    assert "Traceback" not in err and err.startswith("mlxtrace.patch: ") and len(err) < 1500
    assert not [path for path in Path.cwd().iterdir() if path.is_file()]
    return err


@pytest.mark.parametrize(("what", "argv", "words"), BEFORE_LOADING, ids=ids(BEFORE_LOADING))
def test_refused_before_a_model_is_loaded(loaded, capsys, what, argv, words):
    err = refused(capsys, argv)
    assert words in err and err.count("\n") == 1 and not loaded


@pytest.mark.parametrize(("what", "argv", "words"), WITH_THE_MODEL, ids=ids(WITH_THE_MODEL))
def test_refused_once_the_model_is_there(loaded, capsys, what, argv, words):
    err = refused(capsys, argv)
    assert words in err
    assert err.count("\n") == 1 or "different lengths" in what


def test_a_folder_that_cannot_be_written_to(loaded, capsys, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "shut").mkdir(mode=0o500)
    assert "cannot be written to" in refused(capsys, [*PAIR, "--plot", "shut/map.png"])


def test_a_name_that_is_not_in_the_cache_offline():
    done = shell("--model", "someone/something", *PAIR, HF_HUB_OFFLINE="1")
    assert done.returncode == 2 and "someone/something" in done.stderr
    assert len([line for line in done.stderr.splitlines() if "OpenBLAS" not in line]) == 1


# ---- many pairs

PAIRS = [
    {"clean": CLEAN, "corrupted": CORRUPTED, "subject": "Eiffel Tower", "id": "eiffel"},
    {
        "clean": "The Colosseum is located in",
        "corrupted": "The Louvre Museum is located in",
        "id": "colosseum",
    },
    {"clean": "The Eiffel Tower is in", "corrupted": "The Louvre Museum is in", "id": "same answer"},
    {"clean": "The Eiffel Tower is in", "corrupted": "Rio is in the country of", "id": "other length"},
]


@pytest.fixture
def file_of_pairs(tmp_path):
    Path("pairs.json").write_text(json.dumps(PAIRS))
    return "pairs.json"


def test_pairs_of_a_file_are_patched_and_what_was_dropped_is_said(loaded, capsys, file_of_pairs):
    files = ["--json", "r.json", "--csv", "r.csv", "--plot", "r.png"]
    out, err = run(capsys, "--pairs", file_of_pairs, "--positions", "regions", "--component", "mlp", *files)
    assert "2 of 4 pairs of pairs.json are suitable; dropped: " in out and not err
    assert "over 2 pairs" in out and "last subject token" in out and "±" in out
    assert 'Restores most: mlp layer 0 at "last subject token"' in " ".join(out.split())
    assert all(str(Path(name).resolve()) in out for name in ("r.json", "r.csv", "r.png"))
    kept = [Pair(**pair) for pair in PAIRS[:2]]
    direct = _demo().activation_patching(kept, component="mlp", positions="regions")
    assert json.loads(Path("r.json").read_text())["rows"] == direct.to_rows()
    assert "2 of 4 pairs" in Path("r.json").read_text()  # the file says it, too


def test_quiet_pairs_print_their_table_with_what_was_dropped(loaded, capsys, file_of_pairs):
    out, err = run(capsys, "--pairs", file_of_pairs, "--quiet", "--layers", "0-2")
    assert out.startswith("Restoring the MLP output and attention output") and not err
    assert "dropped" in out and "InterpretableModel" not in out


def test_a_limit_of_pairs(loaded, capsys, file_of_pairs):
    out, _ = run(capsys, "--pairs", file_of_pairs, "--limit", "1", "--plan")
    assert "1 of 1 pairs of pairs.json" in out and "dropped" not in out and "nothing was run" in out
    out, _ = run(capsys, "--pairs", "facts", "--limit", "3", "--layers", "0", "--json", "r.json")
    found = json.loads(Path("r.json").read_text())
    assert "3 of 3 pairs of facts" in out and "over 3 pairs" in out and found["rows"][0]["n"] == 3


def test_what_a_task_is_made_with(loaded, capsys, monkeypatch):
    asked = []

    def made(name, model, n, seed=0):
        asked.append((name, n, seed))
        return [Pair(**pair) for pair in PAIRS[:2]]

    monkeypatch.setattr(prompts, "load", made)
    for more in ([], ["--limit", "70"], ["--seed", "3"]):
        run(capsys, "--pairs", "ioi", "--plan", *more)
    assert asked == [("ioi", 64, 0), ("ioi", 70, 0), ("ioi", 64, 3)]


def test_pairs_with_noise_instead_of_their_corrupted_prompts(loaded, capsys, file_of_pairs):
    asked = ["--pairs", file_of_pairs, "--limit", "1", "--noise", "s3", "--samples", "2", "--layers", "0-1"]
    run(capsys, *asked, "--json", "a.json")
    run(capsys, *asked, "--json", "b.json", "--seed", "5")
    a, b = (json.loads(Path(f"{x}.json").read_text())["rows"] for x in "ab")
    assert a != b and a[0]["n"] == 1
    noise, both = GaussianNoise("Eiffel Tower", samples=2), ["mlp", "attn"]
    assert a == _demo().activation_patching([CLEAN], noise, component=both, layers=[0, 1]).to_rows()


def test_within_a_region(loaded, capsys, file_of_pairs):
    asked = [
        "--pairs",
        file_of_pairs,
        "--positions",
        "regions",
        "--component",
        "mlp",
        "--layers",
        "0",
        "--quiet",
    ]
    for name in ("mean", "last", "together"):
        run(capsys, *asked, "--within", name, "--csv", f"{name}.csv")
    run(capsys, *asked, "--csv", "plain.csv")
    found = [Path(f"{name}.csv").read_bytes() for name in ("plain", "mean", "last", "together")]
    assert found[0] == found[1] and len(set(found)) == 3


def test_a_folder_of_pairs_goes_further_when_the_limit_does(loaded, capsys, file_of_pairs):
    asked = ["--pairs", file_of_pairs, "--out", "done", "--component", "mlp", "--layers", "0", "--quiet"]
    out, _ = run(capsys, *asked, "--limit", "1")
    assert "1 of 1 pairs" in out and [path.stem for path in Path("done/pairs").iterdir()] == ["eiffel"]
    out, _ = run(capsys, *asked)
    assert "2 of 4 pairs" in out and len([*Path("done/pairs").iterdir()]) == 2


def test_pairs_into_a_folder_are_resumed(loaded, capsys, file_of_pairs, monkeypatch):
    asked = ["--pairs", file_of_pairs, "--out", "done", "--component", "mlp", "--layers", "0-3"]
    out, _ = run(capsys, *asked)
    assert str(Path("done").resolve()) in out
    plain, _ = run(capsys, *asked[:2], *asked[4:])
    assert (
        out[out.index("recovery of") : out.index("a file for each")].strip()
        == plain[plain.index("recovery of") :].strip()
    )
    from mlxtrace.engine import sweep

    monkeypatch.setattr(sweep.Sweep, "run", lambda *a, **k: pytest.fail("a pair was patched again"))
    again, _ = run(capsys, *asked)
    assert again == out
    _, err = run(capsys, *asked[:-1], "0-4", status=2)
    assert err.count("\n") == 1


def test_pairs_of_which_none_is_suitable(loaded, capsys):
    Path("wrong.json").write_text(json.dumps(PAIRS[2:]))
    err = refused_beside(capsys, ["--pairs", "wrong.json"])
    assert "nothing can be patched: 0 of 2 pairs" in err and "dropped" in err


def refused_beside(capsys, argv):
    before = {*Path.cwd().iterdir()}
    _, err = run(capsys, *argv, status=2)
    assert err.count("\n") == 1 and {*Path.cwd().iterdir()} == before
    return err


def test_a_malformed_file_of_pairs_is_refused_before_the_model_is_loaded(loaded, capsys):
    Path("bad.json").write_text(json.dumps([{"clean": "a", "corupted": "b"}]))
    _, err = run(capsys, "--pairs", "bad.json", status=2)
    assert "corupted" in err and not loaded


# ---- a corrupted prompt that is found


@pytest.mark.parametrize("subject", [["--subject", "Eiffel Tower"], []], ids=["named", "found"])
def test_another_subject_is_found_and_named(loaded, capsys, subject):
    asked = ["--clean", CLEAN, "--corrupted", "auto", *subject]
    out, _ = run(capsys, *asked, "--json", "r.json", "--quiet")
    other = _demo().substitutes(CLEAN, "Eiffel Tower")[0]
    assert f"corrupted: '{other}' in the place of 'Eiffel Tower'" in out
    assert json.loads(Path("r.json").read_text())["corrupted_text"] == CLEAN.replace("Eiffel Tower", other)


def test_the_longest_subject_that_is_known_counts_unless_one_is_named(loaded, capsys):
    out, _ = run(capsys, "--clean", "The Tokyo Tower is in", "--corrupted", "auto", "--plan")
    assert "in the place of 'Tokyo Tower'" in out
    two = "The Colosseum and the Eiffel Tower are in"
    out, _ = run(
        capsys, "--clean", two, "--corrupted", "auto", "--subject", "Colosseum", "--plan", "--metric", "kl"
    )
    assert "in the place of 'Colosseum'" in out


def test_a_subject_that_nothing_fits_in_the_place_of(loaded, capsys, monkeypatch):
    monkeypatch.setattr(InterpretableModel, "substitutes", lambda *a, **k: [])
    err = refused(capsys, ["--clean", CLEAN, "--corrupted", "auto"])
    assert "no subject that is known fits in the place of 'Eiffel Tower'" in err


# ---- how it ends


def test_an_error_of_ours_is_one_line_with_status_1(loaded, capsys, monkeypatch):
    monkeypatch.setattr(patch, "strongest", lambda result: 1 / 0)
    _, err = run(capsys, *PAIR, "--layers", "0", status=1)
    assert err.count("\n") == 1 and "ZeroDivisionError" in err
    _, err = run(capsys, *PAIR, "--layers", "0", "--debug", status=1)
    assert "Traceback" in err


def test_an_interrupt_is_one_line_with_status_130(loaded, capsys, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(patch, "_show_prompt", stop)
    _, err = run(capsys, status=130)
    assert err == "mlxtrace.patch: interrupted\n"


def test_help_names_every_experiment(capsys):
    with pytest.raises(SystemExit) as done:
        patch.main(["--help"])
    assert done.value.code == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("--clean", "--prompt", "--facts", "--plan", "--quiet"))


def shell(*argv: str, **env: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    command = [sys.executable, "-m", "mlxtrace.patch", *argv]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_the_bare_command_as_a_process_in_under_20_seconds():
    import resource

    def spent() -> float:  # processor time: the wall's says how busy the machine is
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    began = spent()
    done = shell()
    assert done.returncode == 0 and Path(options.FIGURE).is_file() and "Paris" in done.stdout
    assert spent() - began < 20
    assert all("OpenBLAS" in line for line in done.stderr.splitlines())


def test_a_reader_that_goes_away_ends_the_run_quietly():
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = f"{sys.executable} -m mlxtrace.patch --plan | true"
    done = subprocess.run(line, shell=True, env=env, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


# ---- prompts are read once


@pytest.fixture
def calls(monkeypatch):
    """Counts, by text, of what is tokenized; and of the pairs that are lined up or given noise."""
    read, made = Counter(), Counter()
    tokenize, align, noised = tokens._tokenize, pairs.align_prompts, pairs.noised_run

    def count_text(tokenizer, text, special):
        read[text] += 1
        return tokenize(tokenizer, text, special)

    def count_pair(function):
        def counted(*args):
            made["pair"] += 1
            return function(*args)

        return counted

    monkeypatch.setattr(tokens, "_tokenize", count_text)
    monkeypatch.setattr(pairs, "align_prompts", count_pair(align))
    monkeypatch.setattr(pairs, "noised_run", count_pair(noised))
    return read, made


TRACE = ["--prompt", CLEAN, "--subject", "Eiffel Tower", "--samples", "2"]


@pytest.mark.parametrize(
    ("argv", "texts", "n_pairs"),
    [
        ([], {CLEAN, CORRUPTED}, 1),
        (["--plan"], {CLEAN, CORRUPTED}, 1),
        (["--quiet"], {CLEAN, CORRUPTED}, 1),
        ([*PAIR, "--subject", "Eiffel Tower"], {CLEAN, CORRUPTED}, 1),
        ([*NOISE, "--samples", "2", "--layers", "3"], {CLEAN}, 1),
        (TRACE, {CLEAN}, 0),
        ([*TRACE, "--compare-bits", "8", "--positions", "last"], {CLEAN}, 0),
        (
            [*PAIR, "--target", " Paris", "--foil", " Rome"],
            {CLEAN, CORRUPTED, f"{CLEAN} Paris", f"{CORRUPTED} Rome"},
            1,
        ),
    ],
    ids=["bare", "plan", "quiet", "subject", "noise", "trace", "bits", "answers"],
)
def test_a_command_reads_each_text_once_and_pairs_once(
    loaded, copied_once, capsys, calls, argv, texts, n_pairs
):
    run(capsys, *argv)
    read, made = calls
    assert read == Counter(texts) and made["pair"] == n_pairs


def test_a_run_of_facts_reads_each_text_once(loaded, capsys, calls):
    run(capsys, "--facts", "demo", "--out", "traces", "--limit", "1", "--samples", "1", "--quiet")
    read, _ = calls
    assert len(read) > 100  # the subjects, whose embeddings scale the noise
    assert max(read.values()) == 1, read.most_common(3)


# ---- two precisions


def test_a_trace_can_be_compared_with_its_quantized_self(loaded, copied_once, capsys, tmp_path):
    asked = ["--prompt", "The Colosseum is located in", "--subject", "Colosseum", "--compare-bits"]
    assert "leave out --json and --csv" in refused(capsys, [*asked, "4", "--csv", "two.csv"])
    assert "invalid choice" in refused(capsys, [*asked, "99"])
    out, _ = run(capsys, *asked, "8", "--samples", "2", "--plot", "two.png")
    assert "8 bits" in out and "correlation" in out and (tmp_path / "two.png").is_file()
