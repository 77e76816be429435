"""Regions: roles of tokens, and the slots that a template names."""

from __future__ import annotations

import pytest

from mlxtrace import InterpretableModel
from mlxtrace.errors import PositionError, SubjectError
from mlxtrace.text.regions import ROLES, regions_of, roles_of, union


@pytest.fixture(scope="module")
def demo():
    return InterpretableModel("demo")


def test_roles_are_the_published_ones():
    assert roles_of(range(1, 5), 9) == [[1], [2, 3], [4], [5], [6, 7], [8]]
    assert roles_of(range(1, 2), 3) == [[1], [], [1], [2], [], [2]]
    assert roles_of(range(1, 3), 3) == [[1], [], [2], [], [], [2]]


def test_a_prompt_without_slots_has_the_roles_of_its_tokens(demo):
    prompt = demo.prompt("The Eiffel Tower is in the city of", "Eiffel Tower")
    found = regions_of(prompt, {})
    assert list(found) == list(ROLES)
    assert found["first subject token"] == (2,) and found["last token"] == (9,)
    short = demo.prompt("Paris is", "Paris")
    assert "middle subject tokens" not in regions_of(short, {}), "it has no token in the middle"


def test_slots_are_texts_their_occurrences_or_positions(demo):
    prompt = demo.prompt("Paris is in France and Paris is in")
    again = prompt.find("Paris", 2)
    found = regions_of(prompt, {"first": "Paris", "second": ["Paris", 2], "END": -1, "two": [1, 2]})
    assert found == {
        "first": tuple(prompt.find("Paris")),
        "second": tuple(again),
        "END": (len(prompt) - 1,),
        "two": (1, 2),
    }
    assert again[0] > prompt.find("Paris")[-1]


@pytest.mark.parametrize("where", ["Rome", ["Paris", 3], ["Paris", 0], 99, []])
def test_what_is_not_in_the_prompt_is_named(demo, where):
    with pytest.raises((SubjectError, PositionError, ValueError), match="S2"):
        regions_of(demo.prompt("Paris is in France and Paris is in"), {"S2": where})


def test_without_subject_and_slots_there_are_no_regions(demo):
    with pytest.raises(SubjectError, match="subject="):
        regions_of(demo.prompt("Paris is in"), {})


@pytest.mark.parametrize(
    "lists,found",
    [
        ([["a", "b"], ["a", "b"]], ["a", "b"]),
        ([["a", "c"], ["a", "b", "c"]], ["a", "b", "c"]),
        ([["c"], ["a", "b", "c"]], ["a", "b", "c"]),
        ([["b"], ["b", "d"], ["a", "b", "c", "d"]], ["a", "b", "c", "d"]),
        ([["a", "b"], ["b", "a"]], ["a", "b"]),
        ([[], ["x"]], ["x"]),
    ],
)
def test_the_union_keeps_the_order(lists, found):
    assert union(lists) == found
