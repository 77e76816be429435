"""What is said of many pairs together."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from mlxtrace.results.over_pairs import (
    answer_of,
    note_of_regions,
    notes_of,
    notes_of_gaps,
    plan_of,
    several,
    tokens_of,
)
from mlxtrace.results.saved import Answer


def test_texts_and_tokens():
    assert several(["a", "a"]) == "a" and several(["a", "b", "c"]) == "3 prompts, the first: a"
    assert tokens_of([["x", "y"], ["x", "z"]]) == ["x", "…"] and tokens_of([["x"], ["x", "z"]]) == []


def test_answers():
    one, other = Answer(1, "a", 0.2, 0.4), Answer(1, "a", 0.4, 0.0)
    assert answer_of([one, other]).corrupted_prob == 0.2
    assert answer_of([one, Answer(2, "b", 1, 1)]) is None and answer_of([one, None]) is None


def test_plans():
    plan, singles = object(), []
    singles = [SimpleNamespace(plan=plan), SimpleNamespace(plan=plan)]
    assert plan_of(singles) is plan and plan_of([*singles, SimpleNamespace(plan=3)]) == [plan, plan, 3]


def test_notes():
    assert "too narrow" in notes_of([SimpleNamespace(notes=[])] * 9)[0] and not notes_of(
        [SimpleNamespace(notes=[])] * 10
    )
    n = np.array([[3, 2], [3, 2]])
    assert note_of_regions(["a", "b"], n, 1) == ["pairs by region: a 3, b 2"] and not note_of_regions(
        ["a"], n[:1], 0
    )
    notes = notes_of_gaps({"kl": np.array([-1.0, -2, 0.5, -1.4])}, list("wxyz"), ["y"])
    assert "1 of 4 pairs have a gap too small" in notes[0] and notes[1].endswith(
        "goes the other way in 1 pairs: y"
    )
    assert notes_of_gaps({"kl": np.array([-1.0, -2, -1.5])}, list("wxy"), []) == []
    assert "recoveries mean little" in notes_of_gaps({"kl": np.array([1.0, -0.9])}, list("ab"), [])[-1]
