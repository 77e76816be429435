"""What JSON and JSONL files say, and which line of a broken one is named."""

from __future__ import annotations

import pytest

from mlxtrace.errors import LoadError
from mlxtrace.prompts.json_files import read_json


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_json_or_a_value_per_line(tmp_path):
    assert read_json(write(tmp_path / "a.json", '[{"a": 1}, 2]')) == [{"a": 1}, 2]
    assert read_json(write(tmp_path / "a.jsonl", '{"a": 1}\n\n2\r\n')) == [{"a": 1}, 2]
    assert read_json(write(tmp_path / "b.json", '{"a": 1}\n{"a": 2}')) == [{"a": 1}, {"a": 2}]
    assert read_json(write(tmp_path / "one.jsonl", '{"a": 1}\n')) == {"a": 1}
    assert read_json(write(tmp_path / "empty.jsonl", " \n")) == []


def test_what_json_may_hold_cuts_no_line(tmp_path):
    text = "a\u2028b\x85c"
    lines = "\n".join(f'{{"t": "{text}", "n": {n}}}' for n in range(2))
    assert [x["t"] for x in read_json(write(tmp_path / "a.jsonl", lines))] == [text, text]


def test_broken_files_are_named(tmp_path):
    with pytest.raises(LoadError, match=r"a.jsonl, line 3 is not JSON: Expecting"):
        read_json(write(tmp_path / "a.jsonl", '{"a": 1}\n\n{oops\n'))
    with pytest.raises(LoadError, match=r"b.json is not JSON: Expecting value"):
        read_json(write(tmp_path / "b.json", "[1,\n]"))
    with pytest.raises(LoadError, match="there is no file"):
        read_json(tmp_path / "c.json")
    with pytest.raises(LoadError):
        read_json(write(tmp_path / "d.json", "[" * 100_000))
