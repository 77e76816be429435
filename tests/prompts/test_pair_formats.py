"""Entries in files of each format, and as bytes that are read as the same entries."""

from __future__ import annotations

import json
import warnings

import pytest

from mlxtrace.errors import LoadError
from mlxtrace.prompts.pair_formats import SUFFIXES, decoded, encoded, is_table, read_entries

ENTRIES = [{"clean": "a\r\n", "target": " ü"}, {"clean": "b"}]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bytes_are_read_as_what_was_written(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    data = encoded(ENTRIES, suffix, ("id", "clean", "target"))
    assert decoded(data, suffix) == ENTRIES
    path = tmp_path / f"a{suffix.upper()}"
    path.write_bytes(data)
    assert read_entries(path) == ENTRIES and is_table(suffix) == (suffix in (".csv", ".parquet"))


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_half_a_character_in_json(suffix):
    entries = [{"clean": "a\ud800b"}]
    assert decoded(encoded(entries, suffix, ()), suffix) == entries


def test_a_list_in_an_object_and_what_is_beside_it(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"pairs": ENTRIES}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_entries(path) == ENTRIES
    path.write_text(json.dumps({"prompts": ENTRIES, "word_idxs": {}, "seq_labels": []}))
    with pytest.warns(UserWarning, match="only its 'prompts' are read, not 'word_idxs', 'seq_labels'"):
        assert read_entries(path) == ENTRIES
    path.write_text(json.dumps(ENTRIES[0]))
    assert read_entries(path) == ENTRIES[:1]


def test_what_cannot_be_read(tmp_path):
    path = tmp_path / "a.csv"
    with pytest.raises(LoadError, match="cannot be read"):
        read_entries(path)
    path.write_bytes(b"a,a\n")
    with pytest.raises(LoadError, match=r"a.csv: each column has a name of its own"):
        read_entries(path)
