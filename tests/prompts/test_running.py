"""Runs over facts: files, averages by hand, kills, resumption, two ranks."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fact_runs import QUICK, ROOT, files, known, model, whole, write  # noqa: F401

import mlxtrace
from mlxtrace import facts
from mlxtrace.errors import InputError
from mlxtrace.experiments.causal_trace import CausalTrace
from mlxtrace.prompts import known as knowing
from mlxtrace.prompts import running
from mlxtrace.results.average_trace import AverageTrace

pytestmark = pytest.mark.usefixtures("undrawn")  # but what fixtures of a module make is drawn


def test_a_run_leaves_a_file_for_each_fact_and_kind(model, known, whole):
    ids = ["0000", "0001", "0003", "0004", "0005"]
    expected = [f"{i}.{kind}.npz" for i in ids for kind in ("attn", "mlp", "state")] + ["0002.skipped.json"]
    assert files(whole.folder) == sorted(expected) and whole.ids == ids
    assert [s["id"] for s in whole.skipped] == ["0002"] and 'not "Berlin"' in whole.skipped[0]["why"]
    out = Path(whole.folder)
    assert all((out / f"average{tail}").is_file() for tail in (".npz", ".txt", ".csv", ".png", "_lines.png"))
    assert (out / "average.txt").read_text() == f"{whole}\n"


def test_a_trace_of_a_run_is_causal_trace_with_the_data_sets_noise(model, known, whole):
    fact = known[1]
    subjects = [f.subject for f in known]
    for kind, name in ((None, "state"), ("mlp", "mlp")):
        there = CausalTrace.load(Path(whole.folder, "traces", f"0001.{name}.npz"))
        here = model.causal_trace(
            fact.prompt, fact.subject, kind=kind, window=2, samples=2, subjects=subjects, progress=False
        )
        np.testing.assert_allclose(there.raw, here.raw, atol=1e-6)
        assert there.noise_level == pytest.approx(here.noise_level) and there.notes == here.notes
    told = there.settings
    assert told["fact"]["subject"] == fact.subject and told["seed"] == 1 and told["hash"]
    assert {"mlxtrace", "mlx", "mlx-lm", "numpy", "python"} <= set(told["versions"])
    assert there.ids == model.encode(fact.prompt) and there.model == model.name


def test_averages_by_hand(known, whole):
    """Means and intervals from the files alone, a loop for every role."""
    traces = {
        kind: [CausalTrace.load(Path(whole.folder, "traces", f"{i}.{name}.npz")) for i in whole.ids]
        for kind, name in ((None, "state"), ("mlp", "mlp"), ("attn", "attn"))
    }
    for k, kind in enumerate(whole.kinds):
        pools = {role: [] for role in range(6)}
        for trace in traces[kind]:
            effect, subject, n = trace.scores - trace.low_score, trace.subject_range, len(trace.tokens)
            for p in range(n):
                if p == subject[0]:
                    pools[0].append(effect[p])
                if subject[0] < p < subject[-1]:
                    pools[1].append(effect[p])
                if p == subject[-1]:
                    pools[2].append(effect[p])
                if p == subject[-1] + 1:
                    pools[3].append(effect[p])
                if subject[-1] + 1 < p < n - 1:
                    pools[4].append(effect[p])
                if p == n - 1:
                    pools[5].append(effect[p])
        for role, rows in pools.items():
            assert whole.counts[role] == len(rows)
            if rows:
                np.testing.assert_allclose(whole.indirect_effect[k, role], np.mean(rows, 0), atol=1e-12)
        for role in (0, 2, 5):  # one token in every fact: the plain standard error
            rows = np.array(pools[role])
            expected = 1.96 * rows.std(0, ddof=1) / math.sqrt(len(rows))
            np.testing.assert_allclose(whole.interval[k, role], expected, atol=1e-12)
    totals = np.array([t.high_score - t.low_score for t in traces[None]])
    assert whole.total_effect == pytest.approx(totals.mean())
    assert whole.total_interval == pytest.approx(1.96 * totals.std(ddof=1) / math.sqrt(len(totals)))


def test_a_finished_run_is_not_run_again(model, known, whole, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("this was done before")

    monkeypatch.setattr(running, "causal_trace", never)
    monkeypatch.setattr(knowing, "capture", never)
    times = {p: p.stat().st_mtime_ns for p in Path(whole.folder, "traces").iterdir()}
    again = facts.run(model, known, out=whole.folder, **QUICK)
    np.testing.assert_array_equal(again.indirect_effect, whole.indirect_effect)
    assert times == {p: p.stat().st_mtime_ns for p in Path(whole.folder, "traces").iterdir()}


def test_damaged_and_missing_files_are_made_again(model, known, whole, tmp_path):
    out = shutil.copytree(whole.folder, tmp_path / "out")
    cut = out / "traces" / "0003.mlp.npz"
    cut.write_bytes(cut.read_bytes()[:1000])
    (out / "traces" / "0004.state.npz").unlink()
    again = facts.run(model, known, out=out, **QUICK)
    np.testing.assert_array_equal(again.indirect_effect, whole.indirect_effect)
    assert files(out) == files(whole.folder)


def test_limits_may_grow_and_kinds_be_added(model, known, whole, tmp_path):
    first = facts.run(model, known, out=tmp_path / "out", kinds=(None,), limit=2, **QUICK)
    assert first.ids == ["0000", "0001"] and first.kinds == [None]
    rest = facts.run(model, known, out=tmp_path / "out", **QUICK)
    np.testing.assert_array_equal(rest.indirect_effect, whole.indirect_effect)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"samples": 3}, "samples is 2 there and 3 here"),
        ({"seed": 2}, "seed"),
        ({"noise": 0.5}, "noise is 's3' there and '0.5' here"),
        ({"window": 5}, "window"),
        ({"replace": True}, "replace"),
    ],
)
def test_settings_are_not_mixed(model, known, whole, changes, says):
    with pytest.raises(InputError, match=says):
        facts.run(model, known, out=whole.folder, **{**QUICK, **changes})


def test_models_and_facts_are_not_mixed(model, known, whole, llama_4bit_folder):
    with pytest.raises(InputError, match="the facts differ"):
        facts.run(model, known[:3], out=whole.folder, **QUICK)
    with pytest.raises(InputError, match="the model's weights differ"):
        facts.run(mlxtrace.InterpretableModel(llama_4bit_folder), known, out=whole.folder, **QUICK)


SCRIPT = """
import os, signal, sys
sys.path.insert(0, {root!r})
import mlxtrace
from mlxtrace import facts
from mlxtrace.results.average_trace import AverageTrace

AverageTrace.plot = AverageTrace.plot_lines = lambda *_: None  # drawn in the tests' own process
write, real, rank = int(sys.argv[3]), os.fsync, os.environ.get("MLX_RANK", "0")

def fsync(file):
    global write
    write -= 1
    if write == 0 and rank == sys.argv[4]:
        os.ftruncate(file, 100)
        os.kill(os.getpid(), signal.SIGKILL)
    real(file)

os.fsync = fsync
model = mlxtrace.InterpretableModel(sys.argv[1])
facts.run(model, {facts}, out=sys.argv[2], samples=2, window=2, progress=False)
print("rank", rank, "done")
"""


def script(tmp_path, known):
    entries = [fact.to_dict() for fact in known]
    return write(tmp_path / "script.py", SCRIPT.format(root=str(ROOT), facts=repr(entries)))


def same_as(whole, out):
    assert [name for name in files(out) if not name.endswith(".part")] == files(whole.folder)
    for name in files(whole.folder):
        if name.endswith(".npz"):
            here, there = (CausalTrace.load(Path(f, "traces", name)) for f in (out, whole.folder))
            np.testing.assert_allclose(here.raw, there.raw, atol=1e-9)
            assert here.settings == there.settings


def test_killed_in_mid_write_and_resumed_is_as_uninterrupted(model, known, whole, llama_folder, tmp_path):
    made = script(tmp_path, known)
    out = tmp_path / "out"
    killed = subprocess.run(
        [sys.executable, made, llama_folder, out, "6", "0"], capture_output=True, text=True
    )
    assert killed.returncode == -9, killed.stderr
    kept = [name for name in files(out) if not name.endswith(".part")]
    assert len(kept) == 4 and len(files(out)) == 5  # settings and four files were whole, the sixth was cut
    times = {name: Path(out, "traces", name).stat().st_mtime_ns for name in kept}
    facts.run(model, known, out=out, **QUICK)
    assert times == {
        name: Path(out, "traces", name).stat().st_mtime_ns for name in kept
    }  # nothing was redone
    same_as(whole, out)


@pytest.fixture
def launch(known, llama_folder, tmp_path):
    """Two ranks on this machine, rank 1 dying in its n-th write (0: never); what they told."""
    program = Path(sys.executable).parent / "mlx.launch"
    if not program.exists():
        pytest.skip("mlx.launch is not installed beside this Python")

    def run(out, writes):
        port = str(20000 + os.getpid() % 20000)
        command = [
            program,
            "-n",
            "2",
            "--backend",
            "ring",
            "--starting-port",
            port,
            "--python",
            sys.executable,
        ]
        given = [script(tmp_path, known), llama_folder, out, writes, "1"]
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # two ranks share this machine
        told = subprocess.run([*command, "--", *given], capture_output=True, text=True, timeout=300, env=env)
        return told.stdout + told.stderr

    return run


def finished(told, whole, out):
    assert "rank 0 done" in told and "rank 1 done" in told, told
    same_as(whole, out)
    both = AverageTrace.load(Path(out, "average.npz"))
    np.testing.assert_allclose(both.indirect_effect, whole.indirect_effect, atol=1e-9)


@pytest.mark.heavy  # CI runs it
def test_two_ranks_do_what_one_does(whole, launch, tmp_path):
    finished(launch(tmp_path / "out", "0"), whole, tmp_path / "out")


@pytest.mark.heavy
def test_one_of_two_ranks_killed(whole, launch, tmp_path):
    out = tmp_path / "out"
    told = launch(out, "3")  # rank 1 dies in its third write
    assert "rank 0 done" not in told and "exited with code -9" in told, told
    kept = [name for name in files(out) if not name.endswith(".part")]
    times = {name: Path(out, "traces", name).stat().st_mtime_ns for name in kept}
    assert len([n for n in kept if n.startswith("0001")]) == 2 and not Path(out, "average.npz").exists()
    finished(launch(out, "0"), whole, out)
    assert times == {name: Path(out, "traces", name).stat().st_mtime_ns for name in kept}


# ---- attributes of several tokens


LIBERTY = {"subject": "Statue of Liberty", "prompt": "The Statue of Liberty is located in the city of"}
GATE = {"subject": "Golden Gate Bridge", "prompt": "The Golden Gate Bridge is located in the city of"}
ONE_KIND = {"kinds": (None,), "samples": 2, "progress": False}


def test_all_of_an_attribute_is_known_and_traced(tmp_path):
    demo = mlxtrace.InterpretableModel("demo")
    asked = [{**LIBERTY, "attribute": "New York"}, {**GATE, "attribute": "San Diego"}]
    average = facts.run(demo, asked, tmp_path / "whole", **ONE_KIND)
    assert average.ids == ["0000"] and average.skipped[0]["why"].startswith('the model says " San Fran')
    there = CausalTrace.load(tmp_path / "whole" / "traces" / "0000.state.npz")
    here = demo.causal_trace(
        LIBERTY["prompt"],
        LIBERTY["subject"],
        samples=2,
        target=" New York",
        subjects=[LIBERTY["subject"], GATE["subject"]],
        progress=False,
    )
    np.testing.assert_allclose(there.raw, here.raw, atol=1e-6)
    assert there.answer.text == " New York" and len(there.answer.tokens) == 4
    first = facts.run(demo, asked, tmp_path / "first", first_token=True, **ONE_KIND)
    assert first.ids == ["0000", "0001"] and not first.skipped
    one = CausalTrace.load(tmp_path / "first" / "traces" / "0000.state.npz")
    assert one.answer.text == " New" and one.high_score > there.high_score


def test_first_tokens_and_whole_attributes_are_not_mixed(tmp_path):
    demo = mlxtrace.InterpretableModel("demo")
    asked, paris = [{**LIBERTY, "attribute": "New York"}], [{"subject": "Louvre", "attribute": "Paris"}]
    facts.run(demo, asked, tmp_path / "first", first_token=True, **ONE_KIND)
    with pytest.raises(
        InputError, match="the first token of each answer alone there and all of each answer here"
    ):
        facts.run(demo, asked, tmp_path / "first", **ONE_KIND)
    paris[0]["prompt"] = "The Louvre is located in the city of"
    facts.run(demo, paris, tmp_path / "one", first_token=True, **ONE_KIND)
    facts.run(demo, paris, tmp_path / "one", **ONE_KIND)  # of one token each it is the same
    with pytest.raises(InputError, match="first_token is True or False, not 1"):
        facts.run(demo, paris, tmp_path / "one", first_token=1, **ONE_KIND)
