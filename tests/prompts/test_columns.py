"""CSV and parquet: every text exactly, and what is wrong with files that are neither."""

from __future__ import annotations

import csv
import importlib

import pytest

from mlxtrace.errors import LoadError
from mlxtrace.prompts import columns

TEXTS = [
    "plain", " leading", "trailing ", 'a "quote"', "a,b", "a\nb", "a\r\nb", "\r", "=1+1", "'x", "-1", "Ünï ▁ 東京",
    "a\u2028b", "x" * 200_000, "null", "[1]",
]  # fmt: skip


def test_every_text_comes_back_from_csv():
    rows = [{"a": text, "n": [1, 2], "k": i} for i, text in enumerate(TEXTS)]
    back = columns.csv_rows(columns.csv_bytes(rows, ["a", "n", "k"]), "x")
    assert back == [{"a": row["a"], "n": "[1, 2]", "k": str(row["k"])} for row in rows]
    assert csv.field_size_limit() == 131072


def test_empty_cells_are_missing_and_empty_lines_nothing():
    assert columns.csv_rows(b"a,b\n1,\n\n,2\n", "x") == [{"a": "1"}, {"b": "2"}]
    assert columns.csv_rows(b"", "x") == columns.csv_rows(b"a,b\n", "x") == []
    assert columns.csv_rows("\ufeffa\r\nü\r\n".encode(), "x") == [{"a": "ü"}]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"a,b\n1\n", "row 1 has 1 cells, the line of names 2"),
        (b"a,b\n1,2,3\n", "row 1 has 3 cells"),
        (b"a,a\n1,2\n", "a name of its own, not 'a', 'a'"),
        (b"a,\n1,2\n", "a name of its own"),
        (b'a\n"never closed\n', "not CSV: unexpected end"),
        (b"a\n\xff\n", "not CSV: .*codec"),
    ],
)
def test_what_is_no_csv(data, says):
    with pytest.raises(LoadError, match=says):
        columns.csv_rows(data, "x.csv")


def test_half_a_character_is_refused():
    with pytest.raises(UnicodeEncodeError):
        columns.csv_bytes([{"a": "\ud800"}], ["a"])


def test_parquet():
    pytest.importorskip("pyarrow")
    rows = [{"a": text, "n": [1, 2], "k": i} for i, text in enumerate(TEXTS)] + [{"a": "", "k": 7}]
    assert columns.parquet_rows(columns.parquet_bytes(rows, ["a", "n", "k"]), "x") == rows
    with pytest.raises(LoadError, match=r"x.parquet is not parquet"):
        columns.parquet_rows(b"no", "x.parquet")


def test_without_pyarrow_the_way_to_it_is_said(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    for call in (lambda: columns.parquet_rows(b"", "x"), lambda: columns.parquet_bytes([], [])):
        with pytest.raises(LoadError, match=r"pip install pyarrow"):
            call()
