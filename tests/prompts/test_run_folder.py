"""Folders of facts that were damaged, copied about, linked elsewhere, or begun twice."""

from __future__ import annotations

import json
import os
import shutil
import threading
import unicodedata
import zipfile

import numpy as np
import pytest
from mlxtrace.facts import Fact

import mlxtrace
from mlxtrace import facts
from mlxtrace.errors import InputError, LoadError
from mlxtrace.prompts.fact_folder import FactFolder as Folder
from mlxtrace.storage import locks

pytestmark = pytest.mark.usefixtures("undrawn")  # but what fixtures of a module make is drawn

QUICK = {"samples": 1, "window": 2, "progress": False, "kinds": (None,)}


PROMPTS = ["The Eiffel Tower is in", "The Colosseum is in", "Paris is located in"]


@pytest.fixture(scope="module")
def model(llama_folder):
    return mlxtrace.InterpretableModel(llama_folder)


@pytest.fixture(scope="module")
def known(model):
    found = []
    for number, prompt in enumerate(PROMPTS):
        token = int(np.array(model.run_with_cache(prompt, [])[0][0, -1]).argmax())
        subject = prompt.removeprefix("The ").split(" is")[0]
        found.append(Fact(subject, prompt, model.token_to_str(token).strip() or "?", id=f"f{number}"))
    return found


@pytest.fixture(scope="module")
def begun(model, known, tmp_path_factory):
    return facts.run(model, known, tmp_path_factory.mktemp("begun") / "out", **QUICK)


@pytest.fixture
def out(begun, tmp_path):
    return shutil.copytree(begun.folder, tmp_path / "out")


def test_ids_have_names_that_no_file_system_confuses(tmp_path):
    accents = [unicodedata.normalize(form, "Zürich") for form in ("NFC", "NFD")]
    ids = [
        "a/b",
        "a_b",
        "a.b",
        "A_b",
        "a_B",
        "",
        ".",
        "..",
        "\ud800",
        "x" * 300,
        "x" * 300 + "y",
        "0007",
        "q42",
        "Q42",
    ]
    folder = Folder(tmp_path)
    names = [folder.name(id) for id in [*ids, *accents]]
    names += [folder.name(name) for name in names if "-" in name]  # ids made to look like names
    assert len({name.lower() for name in names}) == len(names)
    assert all(name.isascii() and 0 < len(name) <= 80 and not name.startswith(".") for name in names)
    assert folder.name("0007") == "0007" and folder.name("q42") == "q42"


def test_a_copied_trace_is_made_again_or_refused(model, known, begun, out):
    traces = out / "traces"
    shutil.copy(traces / "f0.state.npz", traces / "f1.state.npz")
    with pytest.raises(InputError, match="a second trace of the fact 'f0'"):
        facts.averages(out, kinds=(None,))
    again = facts.run(model, known, out, **QUICK)
    np.testing.assert_array_equal(again.indirect_effect, begun.indirect_effect)
    shutil.copy(traces / "f0.state.npz", traces / "f0.mlp.npz")  # of another kind
    facts.run(model, known, out, **{**QUICK, "kinds": ("mlp",)})
    assert mlxtrace.CausalTrace.load(traces / "f0.mlp.npz").kind == "mlp"


DEEP = b'{"a":' * 100_000


DAMAGE = [
    b"",
    b"[]",
    b"3",
    b"null",
    b'{"settings": 3}',
    b'{"settings": {}, "hash": "x", "format": 2}',
    DEEP,
    b"\xff\xfe",
]


@pytest.mark.parametrize("damage", DAMAGE, ids=range(len(DAMAGE)))
def test_damaged_settings_and_records_are_made_again(model, known, begun, out, damage):
    (out / "settings.json").write_bytes(damage)
    (out / "traces" / "f0.skipped.json").write_bytes(damage)
    with pytest.raises(LoadError, match="not a folder of traces"):
        facts.averages(out)
    again = facts.run(model, known, out, **QUICK)
    np.testing.assert_array_equal(again.indirect_effect, begun.indirect_effect)
    (out / "settings.json").write_bytes(damage)
    with pytest.raises(InputError, match="traces of other settings"):
        facts.run(model, known, out, **{**QUICK, "seed": 5})


def damaged_zips(path):
    """Archives with an unknown compression, a password flag, a deep header, text for an array, and cut short."""
    data = path.read_bytes()
    central = data.index(b"PK\x01\x02")
    for offset, value in ((10, 99), (8, 1)):
        changed = bytearray(data)
        changed[central + offset] = value
        changed[offset - 2] = value
        yield bytes(changed)
    yield data[: len(data) // 2]
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    head = np.frombuffer(DEEP, np.uint8)
    for name, x in (("header", head), ("raw", np.array(["a"])), ("raw", np.full((2, 2, 2), np.nan))):
        storage_path = path.with_name("made.npz")
        with zipfile.ZipFile(storage_path, "w") as file:
            for member, content in members.items():
                if member != f"{name}.npy":
                    file.writestr(member, content)
            with file.open(f"{name}.npy", "w") as opened:
                np.lib.format.write_array(opened, x)
        made = storage_path.read_bytes()
        storage_path.unlink()
        yield made


def test_damaged_traces_are_made_again(model, known, begun, out):
    path = out / "traces" / "f1.state.npz"
    for damage in list(damaged_zips(path)):
        path.write_bytes(damage)
        folder = Folder(out)
        assert folder.result("f1", None) is None
    again = facts.run(model, known, out, **QUICK)
    np.testing.assert_array_equal(again.indirect_effect, begun.indirect_effect)


def test_links_out_of_the_folder_are_not_written_through(model, known, out, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("average.csv", "average.npz", "traces/f1.state.npz"):
        (out / name).unlink()
        (out / name).symlink_to(victim)
    facts.run(model, known, out, **QUICK)
    assert victim.read_text() == "precious" and not (out / "average.csv").is_symlink()
    shutil.rmtree(out / "traces")
    (tmp_path / "elsewhere").mkdir()
    (out / "traces").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="leads out of the folder"):
        facts.run(model, known, out, **QUICK)


def test_a_fact_that_cannot_be_read_is_skipped(model, known, tmp_path):
    given = [*known, Fact("\ud800", "The \ud800 is in", "x\udfff", id="half\ud83d")]
    done = facts.run(model, given, tmp_path / "out", **{**QUICK, "seed": np.int64(3)})
    assert [told["id"] for told in done.skipped] == ["half\ud83d"] and "lone surrogate" in done.skipped[0][
        "why"
    ]
    assert done.ids == [fact.id for fact in known]
    again = facts.run(model, given, tmp_path / "out", **{**QUICK, "seed": 3})
    assert again.skipped == done.skipped and "\ud83d" not in repr(again)


def test_a_folder_of_the_format_before_is_refused_and_still_read(model, known, begun, out):
    told = json.loads((out / "settings.json").read_text())
    (out / "settings.json").write_text(json.dumps({**told, "format": 1}))
    with pytest.raises(InputError, match="earlier mlxtrace"):
        facts.run(model, known, out, **QUICK)
    np.testing.assert_array_equal(facts.averages(out, (None,)).indirect_effect, begun.indirect_effect)


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("before", [None, b"{}"])
def test_of_runs_that_begin_at_once_one_wins(tmp_path, monkeypatch, links, before):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    for trial in range(5):
        out, won = tmp_path / str(trial), []
        start = threading.Barrier(8)
        if before is not None:
            (out / "traces").mkdir(parents=True)
            (out / "settings.json").write_bytes(before)

        def begin(seed, out=out, won=won, start=start):
            folder = Folder(out, {"seed": seed}, "m")
            start.wait()
            folder.begin()
            try:
                folder.check()
                won.append(seed)
            except InputError:
                pass

        threads = [threading.Thread(target=begin, args=(seed,)) for seed in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert won == [Folder(out).begun()["settings"]["seed"]]
        assert sorted(p.name for p in out.iterdir()) == ["settings.json", "traces"]


def test_without_locks_one_wins_as_well(tmp_path, monkeypatch):
    def none(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(locks.fcntl, "flock", none)
    test_of_runs_that_begin_at_once_one_wins(tmp_path, monkeypatch, True, None)


def test_without_locks_nobody_removes_settings_that_came_in_between(tmp_path, monkeypatch):
    def none(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(locks.fcntl, "flock", none)
    Folder(tmp_path, {"seed": 1}, "m").begin()
    monkeypatch.setattr(Folder, "is_begun", lambda _: False)  # as if it was looked at before
    Folder(tmp_path, {"seed": 2}, "m").begin()
    assert Folder(tmp_path).begun()["settings"] == {"seed": 1}
