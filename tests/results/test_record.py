"""Results that are dataclasses: fields are saved by their kind, and what was read must fit its own labels."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from mlxtrace.errors import LoadError
from mlxtrace.results.answer import Answer
from mlxtrace.results.record import Record


@dataclass(repr=False, eq=False)
class Small(Record):
    raw: np.ndarray
    layers: list[int]
    answer: Answer
    subject_range: range | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    plan: Any = None

    def shapes(self):
        return {"raw": (len(self.layers), 2)}

    def to_rows(self):
        return [
            {"layer": layer, "first": float(row[0])} for layer, row in zip(self.layers, self.raw, strict=True)
        ]


def small(**changes):
    return Small(
        **(
            dict(raw=np.arange(6.0).reshape(3, 2), layers=[1, 2, 4], answer=Answer(1, " a", 0.9, 0.1))
            | changes
        )
    )


def test_fields_come_back_as_what_they_were(tmp_path):
    given = small(subject_range=range(1, 3), notes=["x"], plan=range(3))
    back = Small.load(given.save(tmp_path / "x"))
    assert (back.layers, back.answer, back.subject_range, back.notes) == (
        given.layers,
        given.answer,
        given.subject_range,
        given.notes,
    )
    np.testing.assert_array_equal(back.raw, given.raw)
    assert Small.load(small().save(tmp_path / "y")).subject_range is None


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": [1, 2]},
        {"raw": np.full((3, 2), np.nan)},
        {"raw": np.zeros((3, 3))},
        {"answer": {"token": 1}},
    ],
)
def test_what_does_not_fit_is_no_result(changes, tmp_path):
    path = small(**changes).save(tmp_path / "x.npz")
    with pytest.raises(LoadError, match="not a complete Small"):
        Small.load(path)


def test_tables_hold_the_rows(tmp_path):
    found = json.loads(small().to_json(tmp_path / "x.json").read_text())
    assert found["rows"] == small().to_rows() and found["layers"] == [1, 2, 4] and "raw" not in found
    assert small().to_csv(tmp_path / "x.csv").read_text().splitlines()[1] == "1,0.0"
