"""A pass of the rules: each value by itself."""

from __future__ import annotations

import pytest

from mlxtrace import compiled
from mlxtrace.compiled.rule_pass import Swap, added, best, copied, fetched, swapped, times
from mlxtrace.compiled.rules import Head


def test_streams_add_up_and_forget_zeros():
    assert added({"a": 1, "b": 2}, {"b": -2, "c": 3}) == {"a": 1, "c": 3}
    assert times({"a": 2}, 3) == {"a": 6} and times({"a": 2}, 0) == {}


def test_the_best_position_and_ties():
    assert best((1, 2), [(0, 1), (3, 0), (0, 0)]) == {1: 1}
    assert best((1,), [(2,), (1,), (2,)]) == {0: 0.5, 2: 0.5}


def test_what_is_fetched_is_copied():
    head = Head("", (), {"a": {"x": 1, "y": 2}, "b": {"y": 1}})
    value = fetched({0: 0.5, 2: 0.5}, [(2, 0), (9, 9), (4, 2)])
    assert value == (3.0, 1.0) and copied(head, value) == {"x": 3.0, "y": 7.0}


def test_only_units_with_rules_are_swapped():
    assert swapped({1: (0,)}, Swap(0, 1, (5,))) == {1: (5,)}
    assert swapped({1: (0,)}, Swap(0, 2, (5,))) == {1: (0,)}
    assert swapped({"a": 1}, Swap(0, None, {})) == {}


@pytest.mark.parametrize("number", range(3))
def test_a_pass_holds_what_the_rules_promise(number):
    program = compiled.lookup(number)
    pair = program.pairs[0]
    run = program.interpreter.run(pair.clean)
    first, second = ("".join(pair.regions[f"{n} person"]) for n in ("first", "second"))
    assert (
        f"person:{first}" in run.at["resid_post", 0][2] and f"person:{second}" in run.at["resid_post", 0][5]
    )
    asked = run.at["resid_post", 1][-1]
    assert asked[f"asked:{pair.regions['question']}"] == 1
    assert asked.get("asked:first", 0) == (pair.regions["order"] == "first")
    assert f"found:{pair.subject}" in run.at["resid_post", 2][-1]
    assert run.last[f"unread:{pair.target.strip()}"] == 8
