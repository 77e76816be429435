"""What tests of the command share: a demo that is loaded once, runs in this process, and the line of a refusal."""

from __future__ import annotations

from pathlib import Path

import pytest
import shipped

import mlxtrace
from mlxtrace import InterpretableModel, patch

ROOT = Path(mlxtrace.__file__).parents[1]
DEMO = ROOT / "mlxtrace" / "demo" / "model.safetensors"
trained = pytest.mark.skipif(not DEMO.is_file(), reason="the demo model is not trained")

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

    def load(name, dtype=None, adapter_path=None, shard=None):
        asked.append(name)
        given = {"dtype": dtype, "adapter_path": adapter_path, "shard": shard}
        bare = name == "demo" and not any(given.values())
        return demo() if bare else InterpretableModel(name, **given)

    monkeypatch.setattr(patch, "InterpretableModel", load)
    return asked


def demo():
    return shipped.load("demo")


def run(capsys, *argv: str, status: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert patch.main(argv) == status, capsys.readouterr().err
    return capsys.readouterr()


def ids(cases):
    return [case[0] for case in cases]


def refused(capsys, argv: list[str]) -> str:
    _, err = run(capsys, *argv, status=2)
    assert "Traceback" not in err and err.startswith("mlxtrace.patch: ") and len(err) < 1500
    assert not [path for path in Path.cwd().iterdir() if path.is_file()]
    return err
