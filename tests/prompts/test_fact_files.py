"""Facts in files and data sets: what can be loaded, and what is wrong with the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlxtrace.facts import Fact

from mlxtrace import facts
from mlxtrace.errors import InputError, LoadError, MlxtraceError
from mlxtrace.prompts.fact_files import DEMO

ROOT = Path(__file__).parents[2]


def write(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


ENTRY = {"subject": "Rome", "prompt": "Rome is in", "attribute": "Italy"}


def test_the_bundled_facts():
    found = facts.load()
    assert found == facts.load("demo") and len(found) > 20
    assert len({f.id for f in found}) == len(found)
    assert all(f.subject in f.prompt and "{}" not in f.prompt for f in found)
    first = found[0]
    told = json.loads(DEMO.read_text())
    assert first.prompt == told["relations"][first.relation]["templates"][0].format(first.subject)


def test_known_1000():
    path = ROOT.parent / "shared" / "data" / "known_1000.json"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    found = facts.load(path)
    assert len(found) == 1209
    assert found[0] == Fact(
        "Vinson Massif", "Vinson Massif is located in the continent of", "Antarctica", "P30", "0"
    )


@pytest.mark.parametrize(
    "entry",
    [
        ENTRY,
        {"subject": "Rome", "template": "{} is in", "object": "Italy"},
        {"subject": "Rome", "prompt": "{} is in", "target_true": " Italy"},
        {"requested_rewrite": {"subject": "Rome", "prompt": "{} is in", "target_true": {"str": "Italy"}}},
    ],
)
def test_forms_of_an_entry(tmp_path, entry):
    expected = [("Rome", "Rome is in", "Italy")]
    for name, text in (("a.json", [entry]), ("a.jsonl", json.dumps(entry) + "\n\n"), ("one.json", entry)):
        found = facts.load(write(tmp_path / name, text))
        assert [(f.subject, f.prompt, f.attribute) for f in found] == expected


def test_lines_and_ids(tmp_path):
    lines = "\n".join(json.dumps({**ENTRY, "known_id": i}) for i in (7, 9))
    assert [f.id for f in facts.load(write(tmp_path / "a.jsonl", lines))] == ["7", "9"]
    assert [f.id for f in facts.load(write(tmp_path / "b.json", [ENTRY, ENTRY]))] == ["0000", "0001"]
    with pytest.raises(InputError, match="two entries have the id '7'"):
        facts.load(write(tmp_path / "c.json", [{**ENTRY, "id": 7}, {**ENTRY, "id": "7"}]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no facts"),
        ("[]", "no facts"),
        ('"facts"', "a list of facts was expected, not str"),
        ([ENTRY, {"prompt": "a", "attribute": "b"}], "entry 1: field 'subject' is missing"),
        ([{**ENTRY, "subject": 5}], "entry 0: field 'subject' is 5"),
        ([{**ENTRY, "attribute": " "}], "entry 0: field 'attribute' is ' '"),
        ([{"subject": "a", "prompt": "a b"}], "'attribute' or 'object'"),
        ([{"subject": "a", "object": "b"}], "entry 0: field 'prompt' or 'template' is missing"),
        ([{"subject": "a", "object": "b", "template": "c"}], "has no {}"),
        ([{**ENTRY, "subject": "Paris"}], "entry 0: field 'prompt'.*does not contain the subject 'Paris'"),
        ([ENTRY, 3], "entry 1: is int, not an object with fields"),
        ([3] * 9, "entry 2.*and 6 more"),
        (
            {"relations": {"r": {}}, "facts": [{"subject": "a", "object": "b", "relation": "r"}]},
            "no list of templates",
        ),
        ({"relations": {}, "facts": []}, "no facts"),
    ],
    ids=str,
)
def test_malformed_files_name_entry_and_field(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        facts.load(write(tmp_path / "facts.json", text))


def test_a_broken_line_is_named(tmp_path):
    with pytest.raises(LoadError, match="line 2 is not JSON"):
        facts.load(write(tmp_path / "facts.jsonl", json.dumps(ENTRY) + "\n{oops\n"))
    with pytest.raises(LoadError, match=r"facts.json is not JSON: Expecting property name"):
        facts.load(write(tmp_path / "facts.json", "{"))


def test_names_that_lead_nowhere(tmp_path, monkeypatch):
    for name in ("nothing.json", "./nothing", "a/b/c", "word"):
        with pytest.raises(LoadError, match="there is no file"):
            facts.load(name)
    with pytest.raises(LoadError, match="is a folder"):
        facts.load(tmp_path)
    import huggingface_hub as hub

    def offline(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(hub.HfApi, "list_repo_files", offline)
    monkeypatch.setattr(hub, "hf_hub_download", offline)
    for name in ("someone/facts", "someone/facts:a.json"):
        with pytest.raises(LoadError, match=r"the hub does not give it .ConnectionError: no network"):
            facts.load(name)


def test_a_hub_data_set(tmp_path, monkeypatch):
    import huggingface_hub as hub

    listed = ["README.md", "data/facts.jsonl"]
    asked = []
    monkeypatch.setattr(hub.HfApi, "list_repo_files", lambda self, name, repo_type: listed)
    path = write(tmp_path / "facts.jsonl", json.dumps(ENTRY))
    monkeypatch.setattr(hub, "hf_hub_download", lambda *a, **k: asked.append((a, k)) or str(path))
    assert facts.load("someone/facts")[0].attribute == "Italy"
    assert asked == [(("someone/facts", "data/facts.jsonl"), {"repo_type": "dataset"})]
    listed.append("more.json")
    with pytest.raises(LoadError, match=r"several files: name one, someone/facts:data/facts.jsonl"):
        facts.load("someone/facts")
    assert facts.load("someone/facts:more.json")[0].subject == "Rome"
    listed[:] = ["data.parquet"]
    with pytest.raises(LoadError, match="no JSON"):
        facts.load("someone/facts")


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
