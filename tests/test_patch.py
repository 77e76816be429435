"""The command line: what it prints and writes, and the one line that every bad input gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from command_runs import (  # noqa: F401
    CLEAN,
    CORRUPTED,
    NOISE,
    PAIR,
    ROOT,
    demo,
    empty_folder,
    ids,
    loaded,
    refused,
    run,
    trained,
)

from mlxtrace import options, patch
from mlxtrace.experiments import pairs
from mlxtrace.text import tokens

pytestmark = trained

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


def test_the_bare_run_patches_windows_of_parts_and_single_states_of_the_stream(
    loaded, undrawn, capsys, monkeypatch
):
    asked = []

    class Watched:
        def __getattr__(self, name):
            return getattr(demo(), name)

        def activation_patching(self, *given, **options):
            asked.append(demo().activation_patching(*given, **options))
            return asked[-1]

    monkeypatch.setattr(patch, "InterpretableModel", lambda *_, **__: Watched())
    out, _ = run(capsys, "--json", "bars.json")
    assert "--window 3" in out and json.loads(Path("bars.json").read_text())["window"] == 3
    bars, drawn = asked
    assert bars.window == 3 and "windows" not in bars.settings
    assert drawn.settings["windows"] == {"resid_post": 1, "mlp": 3, "attn": 3}
    alone = demo().activation_patching(
        CLEAN, CORRUPTED, "resid_post", positions="each", metric="logit_diff", layers=5, progress=False
    )
    mine = [
        row["logit_diff"] for row in drawn.to_rows() if (row["component"], row["layer"]) == ("resid_post", 5)
    ]
    assert mine == pytest.approx(alone.raw.ravel().tolist(), abs=1e-4)
    assert not any("holds one state" in note for note in drawn.notes)


def test_the_command_that_the_bare_run_recommends_gives_the_same_table(loaded, undrawn, capsys):
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
    direct = demo().activation_patching(
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
    from mlxtrace.engine import choice, sweep

    choice.choose(demo().resolver)  # by a trial, once per model
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


def test_answers_of_several_tokens_and_several_right_ones(loaded, capsys):
    prompts = ["--clean", GATE, "--corrupted", LIBERTY, "--quiet", "--layers", "4"]
    out, _ = run(
        capsys, *prompts, "--target", " San Francisco", "--foil", " New York", "--metric", "logit_diff"
    )
    assert '" San Francisco" 3 tokens, " New York" 4 tokens' in out and "log-probability" in out
    run(capsys, *prompts, "--answers", " San Francisco| Rome", "--metric", "prob", "--json", "a.json")
    found = json.loads(Path("a.json").read_text())
    assert found["target"]["text"] == '" San Francisco" or " Rome"' and len(found["target"]["others"]) == 1
    ranked = [
        "--edges",
        "eap",
        "--target",
        " San Francisco",
        "--clean",
        GATE,
        "--corrupted",
        LIBERTY,
        "--quiet",
    ]
    out, _ = run(capsys, *ranked)
    assert "answers are scored whole" in out


GATE = "The Golden Gate Bridge is located in the city of"
LIBERTY = "The Statue of Liberty is located in the city of"


def test_positions_and_answers_as_numbers(loaded, capsys):
    token = demo().answer_token(" Paris", CLEAN)
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
    assert "clean" in err and "'fel'" in err and "--align ends" in err and err.count("\n") > 5
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
    run(capsys, *asked[:-2], "--quiet")  # the published window at the demo's depth is 3 as well
    assert Path("traces/average.csv").read_bytes() == before
    _, err = run(capsys, *asked, "--seed", "9", status=2)
    assert "other settings" in err and err.count("\n") == 1


# ---- what it refuses: (what is wrong, the arguments, words of the line)

EACH = [*PAIR, "--positions", "each"]
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
    ("too little memory", [*EACH, "--max-memory", "1KB"], "--max-memory"),
    ("a folder that does not exist", ["--model", "./nowhere", *PAIR], "./nowhere"),
    ("a name that is no name", ["--model", "nothing", *PAIR], "owner/name"),
    ("an empty name", ["--model", "", *PAIR], "empty"),
    ("a folder that holds no model", ["--model", ".", *PAIR], "config.json"),
]  # fmt: skip


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
    """One line, also where there would be advice on the BLAS."""
    done = shell("--model", "someone/something", *PAIR, HF_HUB_OFFLINE="1", MLXTRACE_BLAS="none")
    assert done.returncode == 2 and "someone/something" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("mlxtrace.patch: ")


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


@pytest.mark.heavy  # test_safety.py has one that reads a line
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
    loaded, copied_once, undrawn, capsys, calls, argv, texts, n_pairs
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
