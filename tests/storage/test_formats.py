"""Values as JSON, rows as CSV, arrays as archives."""

from __future__ import annotations

import csv
import json

import mlx.core as mx
import numpy as np

from mlxtrace import storage


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
