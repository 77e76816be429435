"""Runs over pairs that are killed and resumed, and that two ranks share."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pair_runs import MISSING, OTHER, PAIRS, QUICK, model, names, of, out, same, times, whole  # noqa: F401

from mlxtrace import prompts
from mlxtrace.prompts import pair_running

pytestmark = pytest.mark.usefixtures("undrawn")  # but what fixtures of a module make is drawn

ROOT = Path(__file__).parents[2]

SCRIPT = """
import os, signal, sys
sys.path.insert(0, {root!r})
from mlxtrace import InterpretableModel, prompts
from mlxtrace.prompts import pair_running

out, write, victim = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rank, real, replace = os.environ.get("MLX_RANK", "0"), os.fsync, os.replace
pair_running.MOST = 2

def fsync(file):
    global write
    write -= 1
    if write == 0 and rank == victim:
        os.ftruncate(file, 100)
        os.kill(os.getpid(), signal.SIGKILL)
    real(file)

def told(part, path):
    print("rank", rank, "wrote", os.path.basename(path), flush=True)
    replace(part, path)

os.fsync, os.replace = fsync, told
pairs = [prompts.Pair(**fields) for fields in {pairs!r}]
prompts.run(InterpretableModel("demo"), pairs, out=out, **{options!r})
print("rank", rank, "done", flush=True)
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    fields = [{name: getattr(pair, name) for name in ("clean", "corrupted", "subject")} for pair in PAIRS]
    path = tmp_path_factory.mktemp("script") / "script.py"
    path.write_text(SCRIPT.format(root=str(ROOT), pairs=fields, options=QUICK))
    return path


@pytest.fixture
def in_twos(monkeypatch):
    monkeypatch.setattr(pair_running, "MOST", 2)


@pytest.fixture
def uninterrupted(model, in_twos, tmp_path):
    prompts.run(model, PAIRS, out=tmp_path / "uninterrupted", **QUICK)
    return tmp_path / "uninterrupted"


@pytest.mark.heavy  # the same of facts is quick
def test_killed_in_mid_write_and_resumed_is_as_uninterrupted(model, script, uninterrupted, tmp_path):
    out = tmp_path / "out"
    killed = subprocess.run([sys.executable, script, out, "3", "0"], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr  # in mid write of the second result
    assert len(names(out)) == 1 and (out / "settings.json").exists()
    before = times(out)
    prompts.run(model, PAIRS, out=out, **QUICK)
    assert {name: times(out)[name] for name in names(out) if name in before} == {
        name: when for name, when in before.items() if not name.endswith(".part")
    }
    same(out, uninterrupted)
    assert not [path for path in out.rglob("*.part")]


@pytest.mark.heavy
def test_killed_in_writing_the_settings(model, script, uninterrupted, tmp_path):
    out = tmp_path / "out"
    killed = subprocess.run([sys.executable, script, out, "1", "0"], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    assert not names(out) and not (out / "settings.json").exists()
    prompts.run(model, PAIRS, out=out, **QUICK)
    same(out, uninterrupted)
    assert not [path for path in out.rglob("*.part")]


@pytest.mark.heavy
def test_killed_at_twenty_random_moments(model, script, uninterrupted, tmp_path):
    out, rng, took = tmp_path / "out", random.Random(0), 0.0
    start = time.monotonic()
    subprocess.run([sys.executable, script, tmp_path / "timed", "0", "0"], check=True, capture_output=True)
    took, kept = time.monotonic() - start, set()
    for trial in range(20):
        if trial % 5 == 0:
            shutil.rmtree(out, ignore_errors=True)
            kept = set()
        child = subprocess.Popen([sys.executable, script, out, "0", "0"], stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.3 * took, took))
        child.send_signal(signal.SIGKILL)
        child.wait()
        there = set(names(out)) if (out / "pairs").exists() else set()
        assert kept <= there, "a file was lost"
        kept = there
        if trial % 5 == 4:
            prompts.run(model, PAIRS, out=out, **QUICK)
            same(out, uninterrupted)


# ---- two ranks


@pytest.fixture
def launch(script):
    """Two ranks on this machine, rank 1 dying in its n-th write (0: never); what they told."""
    program = Path(sys.executable).parent / "mlx.launch"
    if not program.exists():
        pytest.skip("mlx.launch is not installed beside this Python")

    def run(out, writes):
        port = str(20000 + (os.getpid() + 7) % 20000)
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
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # two ranks share this machine
        given = [script, out, writes, "1"]
        told = subprocess.run([*command, "--", *given], capture_output=True, text=True, timeout=300, env=env)
        return told.stdout + told.stderr

    return run


def written(told):
    return sorted(line.split("wrote ")[1].strip() for line in told.splitlines() if " wrote " in line)


@pytest.mark.heavy
def test_two_ranks_write_each_file_once(launch, uninterrupted, tmp_path):
    out = tmp_path / "out"
    told = launch(out, "0")
    assert "rank 0 done" in told and "rank 1 done" in told, told
    assert written(told) == sorted(
        [*names(out), *(f"average{tail}" for tail in (".csv", ".npz", ".png", ".txt"))]
    )
    assert "rank 0 wrote 0" in told and "rank 1 wrote 0" in told
    same(out, uninterrupted)


@pytest.mark.heavy
def test_one_of_two_ranks_killed(launch, uninterrupted, tmp_path):
    out = tmp_path / "out"
    told = launch(out, "2")  # rank 1 dies in its second write
    assert "rank 0 done" not in told and not (out / "average.npz").exists(), told
    kept = {name: when for name, when in times(out).items() if not name.endswith(".part")}
    assert kept
    told = launch(out, "0")
    assert "rank 0 done" in told and "rank 1 done" in told, told
    assert not set(kept) & set(written(told)) and kept.items() <= times(out).items()
    same(out, uninterrupted)
