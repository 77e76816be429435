"""Results in files: read back exactly, and other files refused."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from test_patching_result import full, layers, make

from mlxtrace.errors import InputError, LoadError, MlxtraceError
from mlxtrace.results.patching_result import PatchingResult
from mlxtrace.results.saved import Answer, Record
from mlxtrace.storage import load_arrays, save_arrays


@pytest.mark.parametrize(
    "result", [layers(), full(), make([[0.2, 0.3]], ("layer", "position"), foil=None, target=None)]
)
def test_round_trip_is_exact(result, tmp_path):
    path = result.save(tmp_path / "result")
    assert path.name == "result.npz" and os.listdir(tmp_path) == ["result.npz"]
    back = PatchingResult.load(path)
    np.testing.assert_array_equal(back.raw, result.raw)
    np.testing.assert_array_equal(back.recovery, result.recovery)
    assert back.plan == {"cells": 3, "engine": "loop"} and repr(back) == repr(result)
    for name in (
        "dims",
        "coords",
        "clean",
        "corrupted",
        "target",
        "foil",
        "tokens",
        "subject_range",
        "settings",
    ):
        assert getattr(back, name) == getattr(result, name), name
    assert result.target is None or int(back.target) == 5


def test_any_suffix_is_kept(tmp_path):
    assert PatchingResult.load(layers().save(tmp_path / "a.trace")).raw.shape == (4,)
    assert os.listdir(tmp_path) == ["a.trace"]


def test_load_refuses_other_files(tmp_path):
    whole = layers().save(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "text.npz").write_text("hello")
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    save_arrays(tmp_path / "bare.npz", "PatchingResult", {}, {"raw": np.zeros(2)})
    for name in (
        "half.npz",
        "empty.npz",
        "text.npz",
        "array.npy",
        "foreign.npz",
        "bare.npz",
        "none.npz",
        ".",
    ):
        with pytest.raises(LoadError):
            PatchingResult.load(tmp_path / name)
    other = save_arrays(tmp_path / "other.npz", "CausalTrace", {"a": 1}, {"scores": np.eye(2)})
    with pytest.raises(LoadError, match="holds a CausalTrace"):
        PatchingResult.load(other)
    header, arrays = load_arrays(other, "CausalTrace")
    assert header == {"a": 1} and (arrays["scores"] == np.eye(2)).all()


def test_csv_and_json(tmp_path):
    result = full()
    lines = list(csv.DictReader(result.to_csv(tmp_path / "a.csv").open(encoding="utf-8")))
    assert len(lines) == 120 and float(lines[7]["kl"]) == result.to_rows()[7]["kl"]
    data = json.loads(result.to_json(tmp_path / "a.json").read_text(encoding="utf-8"))
    assert data["rows"] == result.to_rows() and data["target"]["text"] == " Paris"


def test_a_result_that_was_drawn_comes_back(tmp_path):
    result = layers()
    result.figure = result.plot()
    back = PatchingResult.load(result.save(tmp_path / "x.npz"))
    assert back.figure is None and dict(back) == dict(result)
    assert "figure" not in json.loads(result.to_json(tmp_path / "x.json").read_text())


@pytest.mark.parametrize("name", ["save", "to_json", "to_csv", "plot"])
def test_a_place_is_refused_before_any_work(name, tmp_path, monkeypatch):
    result = layers()
    for work in ("to_rows", "panels"):
        monkeypatch.setattr(result, work, lambda *_: pytest.fail("worked before it looked"))
    for place in (tmp_path / "no" / "x.png", tmp_path / "no" / "x"):
        with pytest.raises(InputError):
            getattr(result, name)(place)


def test_an_answer_is_its_token():
    answer = Answer(2, " Paris", 0.9, 0.1)
    assert int(answer) == 2 and np.array([1.0, 2.0, 3.0])[answer] == 3 and "abc"[answer] == "c"
    assert answer == Answer(2, " Paris", 0.9, 0.1) and len({answer, Answer(2, " Paris", 0.9, 0.1)}) == 1


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


def test_records_say_how_their_numbers_are_subtracted():
    """`a - b` of two records would be a TypeError without a word of what to do instead."""

    @dataclass(repr=False, eq=False)
    class Pulses(Record):
        high: np.ndarray
        low: np.ndarray
        name: str

    one = Pulses(np.ones(3), np.zeros(3), "x")
    for other in (one, 1):
        with pytest.raises(
            MlxtraceError, match=r"subtract their numbers, a.high - b.high, a.low - b.low$"
        ) as caught:
            one - other
        assert isinstance(caught.value, TypeError)
