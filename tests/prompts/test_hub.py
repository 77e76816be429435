"""Which files of a hub data set are taken: the only table, the one named, all parts of one, the hub's conversion."""

from __future__ import annotations

from types import SimpleNamespace

import huggingface_hub as hub
import pytest
from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

from mlxtrace.errors import LoadError
from mlxtrace.prompts.hub import CONVERTED, only_file, shards

SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")


def gone(kind: type[Exception]) -> Exception:
    """An error of the hub, without the response that made it."""
    return kind.__new__(kind)


@pytest.fixture
def data_set(monkeypatch):
    """A data set whose files a test writes into `own` and `converted`; what was downloaded is in `asked`."""

    there = SimpleNamespace(own=[], converted=[], asked=[])

    def listed(self, name, repo_type, revision=None):
        assert (name, repo_type) == ("someone/pairs", "dataset")
        files = there.own if revision is None else there.converted
        if files is None:
            raise gone(RevisionNotFoundError)
        return files

    def download(name, file, repo_type, revision=None):
        if file not in ((there.own if revision is None else there.converted) or []):
            raise gone(EntryNotFoundError)
        there.asked.append((file, revision))
        return f"/cache/{file}"

    monkeypatch.setattr(hub.HfApi, "list_repo_files", listed)
    monkeypatch.setattr(hub, "hf_hub_download", download)
    return there


def files(name: str) -> list[str]:
    return [str(path).removeprefix("/cache/") for path in shards(name, SUFFIXES)]


def test_the_only_file(data_set):
    data_set.own = ["README.md", "dataset_infos.json", "data/pairs.csv"]
    assert files("someone/pairs") == files("someone/pairs:data/pairs.csv") == ["data/pairs.csv"]
    assert files("someone/pairs:data") == ["data/pairs.csv"]


def test_several_files_are_named(data_set):
    data_set.own = ["a.json", "b.jsonl"]
    with pytest.raises(LoadError, match=r"several files: name one, someone/pairs:a.json \(a.json, b.jsonl\)"):
        files("someone/pairs")
    assert files("someone/pairs:b.jsonl") == ["b.jsonl"]
    with pytest.raises(LoadError, match=r"has no 'c'; it has a.json, b.jsonl"):
        files("someone/pairs:c")


def test_all_parts_of_a_table_in_their_order(data_set):
    data_set.own = [f"data/{s}-0000{i}-of-00002.parquet" for i in (1, 0) for s in ("test", "train")]
    data_set.converted = ["never/0000.parquet"]
    train = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
    assert files("someone/pairs:train") == files("someone/pairs:data/train") == train
    assert files("someone/pairs:data/test-00000-of-00002.parquet") == ["data/test-00000-of-00002.parquet"]
    with pytest.raises(LoadError, match="several files: name one, someone/pairs:data/test "):
        files("someone/pairs")


def test_the_hubs_own_conversion_where_there_is_no_file(data_set):
    data_set.own, data_set.converted = (
        ["data.arrow"],
        ["default/train/0000.parquet", "default/train/0001.parquet"],
    )
    both = data_set.converted
    assert (
        files("someone/pairs") == files("someone/pairs:train") == files("someone/pairs:default/train") == both
    )
    assert data_set.asked[:2] == [(file, CONVERTED) for file in both]
    data_set.asked.clear()
    assert files("someone/pairs:default/train/0001.parquet") == [both[1]]
    assert data_set.asked == [(both[1], CONVERTED)]
    data_set.converted = [*both, "default/test/0000.parquet"]
    with pytest.raises(LoadError, match="several files: name one, someone/pairs:default/t"):
        files("someone/pairs")
    assert files("someone/pairs:test") == ["default/test/0000.parquet"]


@pytest.mark.parametrize("converted", [None, []])
def test_no_file_at_all(data_set, converted):
    data_set.own, data_set.converted = ["README.md"], converted
    with pytest.raises(LoadError, match=r"no file of pairs .* and no conversion"):
        files("someone/pairs")
    with pytest.raises(LoadError, match="no JSON or JSONL file"):
        only_file("someone/pairs", (".jsonl", ".json"))


def test_what_the_hub_refuses_is_said(monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(hub.HfApi, "list_repo_files", offline)
    monkeypatch.setattr(hub, "hf_hub_download", offline)
    for name in ("someone/pairs", "someone/pairs:a.csv"):
        with pytest.raises(LoadError, match=r"cannot load the data set .*ConnectionError: no network"):
            shards(name, SUFFIXES)


def test_a_named_file_needs_no_listing(data_set, monkeypatch):
    """What is in the cache is found without a network."""
    data_set.own = ["a.csv", "b.csv"]
    monkeypatch.setattr(hub.HfApi, "list_repo_files", lambda *a, **k: pytest.fail("the hub was asked"))
    assert files("someone/pairs:b.csv") == ["b.csv"]
