"""Files: written through, beside, or not at all; folders of facts that were damaged, copied about, or begun twice."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
import threading
import unicodedata
import zipfile
from pathlib import Path

import mlx.core as mx
import models
import numpy as np
import pytest
from mlxtrace.facts import Fact

import mlxtrace
from mlxtrace import ActivationCache, facts, storage
from mlxtrace.errors import InputError, LoadError, MlxtraceError
from mlxtrace.prompts.provenance import fingerprint
from mlxtrace.prompts.run_folder import Folder
from mlxtrace.storage import checksums, litter, locks

QUICK = {"samples": 1, "window": 2, "progress": False, "kinds": (None,)}
PROMPTS = ["The Eiffel Tower is in", "The Colosseum is in", "Paris is located in"]


# ---- single files


def test_a_file_keeps_its_mode_and_a_new_one_has_the_default(tmp_path):
    before = os.umask(0o027)
    try:
        new = storage.write_atomic(tmp_path / "new", b"1")
        assert stat.S_IMODE(new.stat().st_mode) == 0o640
        mx.eval(x := mx.ones(3))
        ActivationCache({("output", "a"): x}, {}).save(tmp_path / "cache")
        assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o640
    finally:
        os.umask(before)
    new.chmod(0o604)
    assert stat.S_IMODE(storage.write_atomic(new, b"2").stat().st_mode) == 0o604 and new.read_bytes() == b"2"
    link = tmp_path / "link"
    link.symlink_to("new")
    storage.write_atomic(link, b"3")
    assert link.is_symlink() and new.read_bytes() == b"3"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "link", "new"]


def test_what_is_no_regular_file_is_written_through_to(tmp_path):
    assert storage.write_csv("/dev/null", [{"a": 1}]) == Path("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    storage.write_atomic(pipe, b"x" * 100_000)
    reader.join()
    assert got == [b"x" * 100_000] and stat.S_ISFIFO(pipe.stat().st_mode)
    with pytest.raises(LoadError, match="no regular file"):  # and does not wait for a writer
        storage.load_arrays(pipe, "x")


def test_standard_output_that_goes_to_a_log_is_added_to(tmp_path):
    (tmp_path / "out.csv").symlink_to("/dev/stdout")
    code = "from mlxtrace import storage as s; print('before'); s.write_csv('/dev/stdout', [{'a': 1}]); "
    code += f"s.write_atomic({str(tmp_path / 'out.csv')!r}, b'through a link\\n'); print('after')"
    log = tmp_path / "log"
    with open(log, "w") as opened:
        opened.write("old\n")
        opened.flush()
        subprocess.run([sys.executable, "-c", code], stdout=opened, check=True)
    assert log.read_text().splitlines() == ["old", "before", "a", "1", "through a link", "after"]
    assert (tmp_path / "out.csv").is_symlink()


@pytest.mark.parametrize(
    "name",
    [
        "x" * 300,
        "é" * 200,
        "a/b",
        "",
        "x\0y",
        "\ud800",
        "x" * 5000,
        "loop",
        "folder",
        "file/x",
        "folder/../no/x",
    ],
)
def test_places_that_cannot_be_written_to_are_refused_beforehand(tmp_path, name):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError):
        storage.writable(f"{tmp_path}/{name}" if name else "")
    if name not in ("a/b", "", "folder", "folder/../no/x"):
        with pytest.raises(InputError):
            storage.writable_folder(f"{tmp_path}/{name}")


def test_names_of_the_longest_kind_can_be_written(tmp_path):
    for name in ("x" * 255, "é" * 127):
        storage.write_atomic(tmp_path / name, b"1")
        assert (tmp_path / name).read_bytes() == b"1"


def test_litter_is_removed_and_nothing_else(tmp_path):
    dead = multiprocessing.get_context("fork").Process(target=int)
    dead.start()
    dead.join()
    place = litter._place()
    stale = [
        f".mlxtrace-{place}-{dead.pid}-0123abcd.part",
        ".old.npz.0123abcd.part",
        ".mlxtrace-00000000-1-0123abcd.part",
    ]
    kept = [
        f".mlxtrace-{place}-{os.getpid()}-0123abcd.part",
        ".young.npz.0123abcd.part",
        ".film.part",
        "x.part",
    ]
    for name in stale + kept:
        (tmp_path / name).write_text("")
    for name in [*stale[1:], ".film.part", "x.part"]:
        os.utime(tmp_path / name, (0, 0))
    storage.remove_litter(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(kept)


def test_cells_that_a_spreadsheet_would_run_are_texts(tmp_path):
    texts = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "＝1", " =1", "a", "", "'"]
    storage.write_csv(tmp_path / "x.csv", [{"=t": text, "n": -1.5} for text in texts])
    with open(tmp_path / "x.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["'=t", "n"] and {row[1] for row in rows[1:]} == {"-1.5"}
    assert [row[0] for row in rows[1:]] == [f"'{t}" for t in texts[:7]] + texts[7:]


def test_numbers_of_numpy_and_mlx_become_plain():
    given = {
        "a": np.int64(3),
        "b": np.float32(0.5),
        "c": mx.array([1, 2]),
        "d": np.bool_(True),
        "e": frozenset([1]),
    }
    assert json.loads(json.dumps(storage.plain(given))) == {
        "a": 3,
        "b": 0.5,
        "c": [1, 2],
        "d": True,
        "e": [1],
    }


# ---- caches


def test_no_flipped_bit_of_a_cache_goes_unnoticed(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        ("output", f"m.{i}"): mx.array(rng.normal(size=(1, 3, 4))).astype(mx.bfloat16) for i in range(3)
    }
    path = tmp_path / "x.safetensors"
    ActivationCache(arrays, {}).save(path)
    whole, same, refused = path.read_bytes(), 0, 0
    for bit in range(0, 8 * len(whole), 7):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            loaded = ActivationCache.load(path)
        except LoadError:
            refused += 1
            continue
        same += 1
        assert sorted(loaded) == [key for _, key in arrays], bit
        assert all(
            mx.array_equal(loaded[key], x) and loaded[key].dtype == x.dtype for (_, key), x in arrays.items()
        )
    assert refused > 10 * same > 0


def test_a_cache_that_was_written_before_there_were_checksums_loads(tmp_path):
    mx.save_safetensors(str(tmp_path / "x.safetensors"), {"output:a": mx.ones(3)}, {"mlxtrace": "{}"})
    assert mx.array_equal(ActivationCache.load(tmp_path / "x.safetensors")["a"], mx.ones(3))


# ---- weights


def nothing(net):
    pass


def last(net):
    w = net.model.layers[1].mlp.down_proj
    w.weight = mx.concatenate([w.weight[:-1], w.weight[-1:] + 1])


def rows(net):
    w = net.model.layers[1].mlp.down_proj
    w.weight = mx.concatenate([w.weight[1:2], w.weight[:1], w.weight[2:]])


def layers(net):
    net.model.layers[0].mlp, net.model.layers[1].mlp = net.model.layers[1].mlp, net.model.layers[0].mlp


def config(net):
    net.args.rope_theta = 1.0


@pytest.mark.parametrize("bits", [None, 4])
def test_the_fingerprint_sees_every_weight(bits):
    found = []
    for change in (nothing, last, rows, layers, config, nothing):
        net = models.make("llama", quantize=bits)
        change(net)
        found.append(fingerprint(mlxtrace.InterpretableModel(net).net))
    assert len(set(found)) == 5 and found[0] == found[-1]


def test_checksums_of_types_and_shapes_differ():
    x = mx.arange(12, dtype=mx.float32)
    several = [
        x,
        x.reshape(3, 4),
        x.reshape(4, 3),
        x.reshape(3, 4).T,
        x.astype(mx.bfloat16),
        x.view(mx.uint32),
        x[::-1],
    ]
    assert len({checksums.of_arrays({"x": one}) for one in several}) == len(several)
    assert checksums.of_arrays({"x": mx.array(1.0)}) != checksums.of_arrays({"y": mx.array(1.0)})
    assert checksums.of_arrays({"x": mx.zeros((0, 3))}) != checksums.of_arrays({})


# ---- folders


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
        assert folder.trace("f1", None) is None
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


def test_line_separators_in_jsonl(tmp_path):
    entry = {"subject": "Rome", "prompt": "Rome\u2028\x85 is in", "attribute": "Italy"}
    path = tmp_path / "a.jsonl"
    path.write_text(
        "\r\n".join(json.dumps({**entry, "id": i}, ensure_ascii=False) for i in range(2)), encoding="utf-8"
    )
    assert [fact.prompt for fact in facts.load(path)] == [entry["prompt"]] * 2
    for text in ("[" * 100_000, "1" * 5000):
        path.write_text(text)
        with pytest.raises(MlxtraceError):
            facts.load(path)


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
