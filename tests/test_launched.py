"""Commands on several ranks: who prints and writes, and who says what is wrong; two and four ranks on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mlxtrace import InterpretableModel, PatchingResult, launched, patch
from mlxtrace.errors import InputError
from mlxtrace.option_values import ranks
from mlxtrace.prompts.ranks import LAUNCHED
from mlxtrace.terminal import Output

PAIR = ["--clean", "The Eiffel Tower is in", "--corrupted", "The Colosseum is in", "--layers", "0-1"]


@pytest.fixture(autouse=True)
def not_launched(monkeypatch):
    for name in (*LAUNCHED, "MLX_HOSTFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def second(monkeypatch):
    """As rank 1 of a run of MPI, which ends all by itself: there are no links."""
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setattr(launched.links, "GRACE", 0)


def test_without_shard_nothing_is_silent(second, capsys):
    assert type(launched.output("mlxtrace.patch", ["--model", "M"])) is Output
    assert launched.output("mlxtrace.patch", []).first
    assert patch.main(["--nonsense"]) == 2 and "nonsense" in capsys.readouterr().err


def test_the_second_prints_nothing(second, capsys):
    for argv in (["--shard"], ["--shard=2"]):
        say = launched.output("mlxtrace.patch", argv)
        say("a table")
        print("and more")
        say.complain("note: slow")
        assert not say.first and say.close() is None
    assert capsys.readouterr() == ("", "")
    print("again")
    assert capsys.readouterr().out == "again\n"


def test_what_only_the_second_finds_is_said(second, capsys):
    assert patch.main(["--shard", "--nonsense"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("mlxtrace.patch: rank 1: unrecognized arguments: --nonsense")


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_what_is_no_number_of_ranks(value, capsys):
    assert patch.main([f"--shard={value}"]) == 2
    assert "no number of ranks" in capsys.readouterr().err


def test_a_pipeline_of_one_process_is_the_whole_model(recwarn):
    assert InterpretableModel("demo", shard="pipeline").resolver.group is None
    [told] = [w for w in recwarn if "shard='pipeline'" in str(w.message)]
    assert "one process, so the model is whole" in str(told.message)
    assert ranks("pipeline") == "pipeline"


def test_ranks_alone_make_no_copies(capsys):
    assert patch.main(["--shard", "2", *PAIR]) == 2
    assert "--shard 2: 1 process cannot be dealt out to models of 2 each" in capsys.readouterr().err
    assert patch.main(["--shard", "--quiet", *PAIR]) == 0
    assert "there is one process, so the model is whole" in capsys.readouterr().err


def test_copies_share_a_folder(monkeypatch):
    """Four ranks, two copies of a model: what cannot be shared is refused."""
    monkeypatch.setattr(launched, "Ranks", lambda sharded: SimpleNamespace(size=2))
    model = SimpleNamespace(resolver=SimpleNamespace(group=None))
    with pytest.raises(InputError, match="--shard 2 makes 2 copies of the model"):
        launched.check_copies(model, 2, None)
    for shard, out in ((2, "a folder"), (None, None), (True, None)):
        launched.check_copies(model, shard, out)


# ---- ranks that mlx.launch would start


RUN = """
import os, sys
from mlxtrace.prompts import links
links.START = 200
"""


def start(tmp_path, n, *argv, code=RUN):
    """The status, the output and the errors of each of n ranks of a command, as `mlx.launch` starts them."""
    first = 20000 + (os.getpid() * 7) % 20000
    hosts = tmp_path / "hosts.json"
    hosts.write_text(json.dumps([[f"127.0.0.1:{first + rank}"] for rank in range(n)]))
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MLX_HOSTFILE": str(hosts)}
    body = code + "import mlxtrace.patch\nsys.exit(mlxtrace.patch.main(sys.argv[1:]))"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", body, *map(str, argv)], env={**env, "MLX_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(n)
    ]  # fmt: skip
    told = [one.communicate(timeout=280) for one in started]
    return [(one.returncode, *texts) for one, texts in zip(started, told, strict=True)]


@pytest.mark.heavy
def test_two_ranks_print_and_write_what_one_does(tmp_path, capsys):
    argv = [*PAIR, "--component", "head", "--metric", "logit_diff"]
    (status, out, err), other = start(tmp_path, 2, "--shard", *argv, "--json", tmp_path / "a.json")
    assert (status, err) == (0, "") and other == (0, "", "")
    assert patch.main([*argv, "--json", str(tmp_path / "b.json")]) == 0
    said = capsys.readouterr().out
    assert len(out.splitlines()) == len(said.splitlines()) and out[:500] == said[:500]
    found, wanted = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    for one, two in zip(found["rows"], wanted["rows"], strict=True):
        assert one["logit_diff_recovery"] == pytest.approx(two["logit_diff_recovery"], abs=1e-3)


@pytest.mark.heavy
def test_one_of_two_ranks_killed_in_a_sweep(tmp_path):
    code = RUN + (
        "import mlxtrace.engine.batch as batch\nfrom mlxtrace.engine.batch import *\nimport signal\n"
        "if os.environ['MLX_RANK'] == '1':\n"
        "    batch.np.ravel_multi_index = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    (status, out, err), other = start(tmp_path, 2, "--shard", "--quiet", *PAIR, code=code)
    assert (status, out) == (1, "") and other == (-9, "", "")
    assert "mlxtrace: rank 1 has ended without a word" in err and "the run ends on every rank" in err


@pytest.mark.heavy
def test_two_copies_of_two_ranks_share_pairs(tmp_path):
    """Each pair is run by one copy, and its first rank writes; the numbers are those of one process."""
    sights = {"Eiffel Tower": " Paris", "Colosseum": " Rome"}
    other = {"corrupted": "The Statue of Liberty is in the city of"}
    pairs = [
        {"clean": f"The {sight} is in the city of", "target": city, **other} for sight, city in sights.items()
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    argv = ["--pairs", tmp_path / "pairs.jsonl", "--positions", "regions", "--layers", "0,6"]
    found = start(tmp_path, 4, "--shard", "2", "--quiet", *argv, "--out", tmp_path / "four")
    assert [status for status, _, _ in found] == [0] * 4, found
    assert found[0][1] and [texts for _, *texts in found[1:]] == [["", ""]] * 3
    assert patch.main(["--quiet", *map(str, argv), "--out", str(tmp_path / "one")]) == 0
    four, one = (PatchingResult.load(Path(tmp_path, name, "average.npz")) for name in ("four", "one"))
    assert four.ids == one.ids and len(list((tmp_path / "four" / "pairs").glob("*.npz"))) == 2
    np.testing.assert_allclose(four.recovery, one.recovery, atol=1e-2)
