"""Sets by name: tasks, files of every format, hub data sets; all of them, the first n, checked against a model."""

from __future__ import annotations

import json
import warnings

import huggingface_hub as hub
import pytest

from mlxtrace import InterpretableModel, prompts
from mlxtrace.errors import InputError, LoadError
from mlxtrace.prompts import Pair

PAIRS = [
    Pair(f"The Louvre {i} is in", f"The Colosseum {i} is in", " Paris", " Rome", id=str(i)) for i in range(5)
]


@pytest.fixture(scope="module")
def model():
    return InterpretableModel("demo")


def test_a_csv_file_as_people_write_it(tmp_path):
    path = tmp_path / "a.csv"
    text = "clean_prompt,corrupted_prompt,answer,wrong_answer,region.S,region.END\n"
    path.write_text(text + '"In Rome, I",In Paris I, eat, drink,Rome,-1\n', newline="\r\n")
    regions = {"S": "Rome", "END": -1}
    assert prompts.load(path) == [
        Pair("In Rome, I", "In Paris I", " eat", " drink", regions=regions, id="0000")
    ]


def test_all_of_a_file_or_the_first_n(tmp_path):
    path = prompts.save(PAIRS, tmp_path / "a.jsonl")
    assert (
        prompts.load(path) == prompts.load(str(path), n=5) == PAIRS and prompts.load(path, n=2) == PAIRS[:2]
    )
    with pytest.raises(InputError, match="has 5 pairs, not 6"):
        prompts.load(path, n=6)
    for n in (0, -1, 1.5, True):
        with pytest.raises(InputError):
            prompts.load(path, n=n)
    with pytest.raises(InputError, match="seed=3 draws the pairs of a task"):
        prompts.load(path, seed=3)


def test_an_empty_file_has_no_pairs(tmp_path):
    for name, text in (("a.json", "[]"), ("b.jsonl", ""), ("c.csv", "clean,corrupted\n"), ("d.csv", "")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match="there are no pairs"):
            prompts.load(tmp_path / name)


def test_every_malformed_entry_of_a_file_is_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(
        json.dumps([{"clean": "a"}, {"clean": 1.5}, {"corrupted": "b"}, {"clean": "c", "foil": []}])
    )
    with pytest.raises(InputError, match=r"a.json, malformed:\n.*entry 1.*\n.*entry 2.*\n.*entry 3"):
        prompts.load(path)


def test_fields_that_are_called_otherwise(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"q": "a", "case": 1}]))
    assert prompts.load(path, fields={"q": "clean", "case": None}) == [Pair("a", id="0000")]
    with pytest.raises(InputError, match="'ioi' is a task"):
        prompts.load("ioi", fields={"q": "clean"})


def test_a_model_reads_what_a_file_has(tmp_path, model):
    path = prompts.save(PAIRS, tmp_path / "a.json")
    assert prompts.load(path, model=model) == PAIRS
    odd = [Pair("The Louvre", regions={"A": "Rome"}), Pair("The Louvre", subject="Rome"), PAIRS[0],
           Pair([10**6], id="x"), Pair("The Louvre is in", target="Paris")]  # fmt: skip
    with pytest.raises(InputError) as caught:
        prompts.load(prompts.save(odd, tmp_path / "b.json"), model=model)
    lines = [line for line in str(caught.value).split("\n") if line.startswith("  pair")]
    assert [line.split(":")[0].strip() for line in lines] == [
        "pair '0000'",
        "pair '0001'",
        "pair 'x'",
        "pair '0004'",
    ]
    assert prompts.load(tmp_path / "b.json")[2] == PAIRS[0]


def test_a_hub_data_set(tmp_path, monkeypatch):
    local = prompts.save(PAIRS, tmp_path / "a.csv")
    monkeypatch.setattr(
        hub.HfApi, "list_repo_files", lambda self, name, repo_type: ["README.md", "data/a.csv"]
    )
    monkeypatch.setattr(hub, "hf_hub_download", lambda name, file, repo_type: str(local))
    assert prompts.load("someone/pairs") == prompts.load("someone/pairs:data/a.csv") == PAIRS


def test_a_data_set_in_several_parts_is_one_set(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    for i in range(2):
        prompts.save(PAIRS[2 * i : 2 * i + 2], tmp_path / f"000{i}.parquet")
    converted = {"revision": "refs/convert/parquet"}
    listed = {
        "": ["README.md"],
        "refs/convert/parquet": ["default/train/0001.parquet", "default/train/0000.parquet"],
    }
    monkeypatch.setattr(
        hub.HfApi, "list_repo_files", lambda self, name, repo_type, revision="": listed[revision]
    )

    def download(name, file, repo_type, **where):
        assert where == converted
        return str(tmp_path / file.rpartition("/")[2])

    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert prompts.load("someone/pairs") == PAIRS[:4]


def test_names_that_lead_nowhere():
    with pytest.raises(LoadError, match=r"no file 'ioii'.*the tasks are facts, ioi, .*closest: ioi"):
        prompts.load("ioii")


def test_a_task_by_name(model):
    pairs = prompts.load("facts", model=model, n=3, seed=1)
    assert pairs == prompts.fact_pairs(model, 3, 1) and len(pairs) == 3
    assert len(prompts.load("ioi")) == 64
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prompts.load("induction", n=1)
    for wrong in ({"n": 0}, {"seed": -1}, {"seed": 0.5}, {"model": "demo"}, {"model": 5}):
        with pytest.raises(InputError):
            prompts.load("ioi", **wrong)
