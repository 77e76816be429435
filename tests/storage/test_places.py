"""Places that are looked at before any work is done."""

from __future__ import annotations

import os

import mlx.core as mx
import pytest
from test_patching_result import full

import mlxtrace
from mlxtrace import facts, plotting, storage
from mlxtrace.errors import InputError, LoadError
from mlxtrace.prompts.fact_folder import FactFolder as Folder
from mlxtrace.storage import write_atomic


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


def test_where_nothing_can_be_written(tmp_path):
    for bad in (tmp_path, tmp_path / "missing" / "a.npz"):
        with pytest.raises(InputError, match="folder"):
            write_atomic(bad, b"")
    for nameless in (None, 3, "", "a\0.npz"):
        with pytest.raises(InputError, match="named by"):
            write_atomic(nameless, b"")
        with pytest.raises(InputError, match="named by"):
            full().save(nameless)


def readers():
    return {
        "result": mlxtrace.PatchingResult.load,
        "trace": mlxtrace.CausalTrace.load,
        "effects": mlxtrace.CausalEffects.load,
        "average": mlxtrace.AverageTrace.load,
        "cache": mlxtrace.ActivationCache.load,
        "facts": facts.load,
        "folder of traces": facts.averages,
        "object": storage.read_object,
        "text": storage.read_text,
    }


@pytest.mark.parametrize("name", readers())
def test_reading_what_is_not_there_or_damaged_is_one_error(name, tmp_path):
    (tmp_path / "text").write_text("no {json")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    places = [tmp_path / x for x in ("no/x.json", "folder", "pipe", "bytes", "text")]
    for place in [*places[: 4 if name == "text" else 5], "a\0.json", "~nobody-of-this-name/x.json"]:
        with pytest.raises(LoadError):
            readers()[name](place)
    if name != "facts":  # None: the bundled ones
        with pytest.raises(LoadError):
            readers()[name](None)


@pytest.mark.parametrize("name", ["save", "to_json", "to_csv", "cache", "figure", "folder of traces"])
def test_writing_where_nothing_can_be_written_is_one_error(name, tmp_path):
    (tmp_path / "file").write_text("")
    cache = mlxtrace.ActivationCache({("output", "a"): mx.ones(3)}, {})
    write = {
        "cache": cache.save,
        "figure": lambda path: plotting.save(plotting.head_heatmap([[1.0]]), path),
        "folder of traces": lambda path: Folder(path, {"seed": 1}).begin(),
    }
    for place in (
        tmp_path / "file" / "x.png",
        "a\0.png",
        "~nobody-of-this-name/x.png",
        "x" * 300 + ".png",
        3,
        "",
    ):
        with pytest.raises(InputError):
            (write.get(name) or getattr(full(), name))(place)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


WRITERS = {  # what writes which format, and suffixes that it takes
    "save": (".npz", ".npz", ".NPZ", "", ".5", ".trace"),
    "to_json": (".json", ".json", ".txt", "", ".5"),
    "to_csv": (".csv", ".csv", ".CSV", ".txt", ""),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_suffix_that_says_something_else_is_refused(writer, tmp_path):
    """Nothing is written under a name that says that another format is in it."""
    own, *taken = WRITERS[writer]
    result = full()
    for suffix in (
        ".npz",
        ".json",
        ".jsonl",
        ".csv",
        ".tsv",
        ".png",
        ".pdf",
        ".PT",
        ".safetensors",
        ".parquet",
    ):
        if suffix != own:
            with pytest.raises(InputError, match=f"but {own[1:]}: name it x{own}"):
                getattr(result, writer)(tmp_path / f"x{suffix}")
    assert not list(tmp_path.iterdir())
    for suffix in taken:
        path = getattr(result, writer)(tmp_path / f"y{suffix}")
        assert path.name == f"y{suffix}" or (writer, path.name) == ("save", "y.npz")


def test_what_checks_a_format():
    for name in ("x", "x.json", "x.JSON", "layers.3", "v1.2", "x.json.tmp"):
        storage.check_format(name, ".json")
    with pytest.raises(InputError, match=r"x.npz would hold no npz but json: name it x.json \(mended so\)"):
        storage.check_format("x.npz", ".json", cure=" (mended so)")
