"""Names of sets: files that are there, data sets, and names that lead nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxtrace.errors import LoadError
from mlxtrace.prompts import pair_sources

SUFFIXES = (".json", ".csv")


def found(name):
    return pair_sources.found(name, SUFFIXES, ["ioi", "facts"])


def test_files(tmp_path, monkeypatch):
    path = tmp_path / "a.JSON"
    path.write_text("[]")
    assert found(path) == found(str(path)) == ([path], str(path))
    monkeypatch.chdir(tmp_path)
    assert found("a.JSON") == ([Path("a.JSON")], "a.JSON")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert found("~/a.JSON")[0] == [path]
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "name.csv").write_text("")
    assert found("owner/name.csv")[1] == "owner/name.csv"


def test_data_sets(monkeypatch):
    monkeypatch.setattr(pair_sources, "shards", lambda name, suffixes: [Path(name)] * (suffixes == SUFFIXES))
    for name in ("owner/name", "owner/name:a/b.csv", "owner/name:train"):
        assert found(name) == ([Path(name)], f"the data set {name}")


@pytest.mark.parametrize(
    "name", ["a.json", "./a", "/a/b", "a/b/c", "ioii", Path("owner/name"), "owner/a.csv"]
)
def test_names_that_lead_nowhere(name):
    with pytest.raises(LoadError, match=r"there is no file .* the tasks are ioi, facts"):
        found(name)


def test_what_is_no_file_of_pairs(tmp_path):
    with pytest.raises(LoadError, match="is a folder: name a file of pairs"):
        found(tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(LoadError, match=r"a file of pairs ends in .json, .csv"):
        found(tmp_path / "a.txt")
    for name in (None, 5, ["a"]):
        with pytest.raises(LoadError, match="named by a text"):
            found(name)
    (tmp_path / "b.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(LoadError, match="there is no file"):
        found(tmp_path / "b.json")
