"""Nobody's code runs, nobody's text commands the terminal, and a command whose output goes nowhere ends well."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mlxtrace
from mlxtrace import patch, plotting, terminal
from mlxtrace.errors import InputError, LoadError
from mlxtrace.experiments.causal_trace import CausalTrace
from mlxtrace.plotting import kit
from mlxtrace.results import tables
from mlxtrace.results.patching_result import Answer

ROOT = Path(__file__).parents[1]
EVIL = "open('ran', 'w').write('x')\n"
NASTY = "a$$b $x$ \ud800 \x1b[2J \x9b31m \u202e c\rd \x00"


# ---- models that bring code


def test_a_model_file_is_refused_and_does_not_run(llama_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    (folder / "own.py").write_text(EVIL)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_file": "own.py"}))
    with pytest.raises(LoadError, match="runs no model's code"):
        mlxtrace.InterpretableModel(folder)
    import huggingface_hub as hub

    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(folder))
    with pytest.raises(LoadError, match="runs no model's code"):
        mlxtrace.InterpretableModel("someone/model")
    assert not (tmp_path / "ran").exists()


def test_a_tokenizers_code_is_refused_without_a_question(llama_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    (folder / "own.py").write_text(EVIL + "class Own: pass\n")
    told = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    with pytest.raises(LoadError, match="runs no model's code"):
        mlxtrace.InterpretableModel(folder)
    assert not (tmp_path / "ran").exists()


# ---- texts


def nasty_trace() -> CausalTrace:
    return CausalTrace(
        raw=np.linspace(0, 1, 6).reshape(3, 2, 1),
        low_score=0.1,
        high_score=0.9,
        answer=Answer(1, NASTY, 0.9, 0.1),
        subject_range=range(1, 2),
        positions=[0, 1, 2],
        tokens=["=1", NASTY, "$$"],
        ids=[1, 2, 3],
        noise_level=0.1,
        kind=None,
        window=1,
        severed=None,
        prompt=NASTY,
        model=NASTY,
        notes=[NASTY],
    )


def harmless(text):
    return not any(c in text for c in "\x1b\x9b\r\x00\u202e\ud800")


def test_what_is_printed_does_not_command_the_terminal():
    trace = nasty_trace()
    assert harmless(repr(trace)) and "\\x1b[2J" in repr(trace)
    assert harmless(tables.quoted(NASTY)) and harmless(str(InputError(f"no {NASTY}")))
    assert terminal.printable("Zürich → 東京\n\t😀") == "Zürich → 東京\n\t😀"


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_dollars_and_halves_of_characters_are_drawn(tmp_path, suffix):
    nasty_trace().plot(tmp_path / f"x{suffix}")
    values = np.ones((2, 2))
    plotting.head_heatmap(values, title=NASTY, label="$$", path=tmp_path / f"y{suffix}")
    plotting.rome_heatmap(values, ["$$", "a"], low=0.1, model="m$$", title="$$", path=tmp_path / f"z{suffix}")
    assert len(list(tmp_path.iterdir())) == 3
    assert kit.escape(kit.escape("$$")) == kit.escape("$$") == r"\$\$"


# ---- a command's output

ASKED = ["--prompt", "The Colosseum is in", "--subject", "Colosseum", "--samples", "1", "--json", "x.json"]


def command(line: str, folder: Path, **env: str) -> subprocess.CompletedProcess:
    full = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ASKED": json.dumps(ASKED),
        "PYTHON": sys.executable,
        **env,
    }
    return subprocess.run(
        line, shell=True, cwd=folder, env=full, capture_output=True, text=True, executable="bash"
    )


RUN = f'"$PYTHON" -m mlxtrace.patch {" ".join(map(json.dumps, ASKED))}'


@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        pytest.param(
            f"PYTHONIOENCODING=ascii {RUN}", 0, "", marks=pytest.mark.heavy
        ),  # as below, in a process
        (
            f"PYTHONUNBUFFERED=1 {RUN} > /dev/full",
            1,
            "mlxtrace.patch: standard output cannot be written: No space left",
        ),
        (f"{RUN} >&-", 0, ""),
        pytest.param(f"{RUN} | head -1; exit ${{PIPESTATUS[0]}}", (0, 1), "", marks=pytest.mark.heavy),
    ],
    ids=["ascii", "full", "closed", "head"],
)
def test_files_are_written_wherever_the_output_goes(tmp_path, line, status, says):
    if "/dev/full" in line and not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    done = command(line, tmp_path)
    told = [x for x in done.stderr.splitlines() if "BLAS" not in x]
    assert done.returncode in np.atleast_1d(status), done.stderr
    assert len(told) == bool(says) and all(x.startswith(says) for x in told)
    assert json.loads((tmp_path / "x.json").read_text())["rows"]


def test_files_are_written_where_the_output_cannot_be_encoded(tmp_path, monkeypatch, shipped_once):
    monkeypatch.chdir(tmp_path)
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding="ascii"))
    assert patch.main(ASKED) == 0
    assert json.loads((tmp_path / "x.json").read_text())["rows"] and b"?" in data.getvalue()


def test_an_interrupt_while_importing_is_one_line(tmp_path):
    stub = tmp_path / "numpy.py"  # imported by the package, and interrupted there
    stub.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfor _ in range(10**9): pass\n")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    for name in ("patch", "check"):
        done = subprocess.run(
            [sys.executable, "-m", f"mlxtrace.{name}"], env=env, capture_output=True, text=True, cwd=tmp_path,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (130, f"mlxtrace.{name}: interrupted\n")


def test_places_are_checked_before_the_model_is_loaded(tmp_path):
    from mlxtrace import options

    for asked in (["--json", "x" * 300 + ".json"], ["--plot", "x" * 300 + ".png"]):
        with pytest.raises(InputError):
            options.read(asked)
    with pytest.raises(InputError, match="no longer than"):
        options.read(["--facts", "demo", "--out", str(tmp_path / ("x" * 300))])
