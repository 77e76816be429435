"""Lists of prompts: what is one prompt and what several, in batches by length, and nothing padded."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace import errors
from mlxtrace.text.batches import by_length, one_batch, several
from mlxtrace.text.pair import Pair
from mlxtrace.text.prompt import read

PROMPT = read(None, [5, 6])

ONE = ["abc", PROMPT, [5, 6, 7], (5, 6), range(3), np.array([5, 6]), mx.array([5, 6]), [[5, 6, 7]], [(5, 6)],
       mx.array([[5, 6, 7]]), np.array([[5, 6]]), [mx.array([5, 6])], [np.int64(5), mx.array(6)], [5], [[[5, 6]]],
       [], None, 5, {"a"}, {"a": 1}, b"ab", (x for x in "ab"), [None], Pair("a", "b")]  # fmt: skip
SEVERAL = [["a", "b"], ("a", "b"), ["a"], np.array(["a", "b"]), [PROMPT], [PROMPT, "a"], [[5], [6, 7]], [[5, 6], "a"],
           mx.array([[5, 6], [7, 8]]), np.array([[5, 6], [7, 8]]), [mx.array([5]), mx.array([6, 7])],
           [range(2), (5, 6)], ["a", "a"]]  # fmt: skip


@pytest.mark.parametrize("given", ONE, ids=lambda given: type(given).__name__)
def test_one_prompt_and_what_is_none_is_not_several(given):
    assert several(given) is None


@pytest.mark.parametrize("given", SEVERAL, ids=repr)
def test_a_list_of_prompts_has_one_in_each_entry(given):
    found = several(given)
    assert isinstance(found, list) and len(found) == len(given)


@pytest.mark.parametrize(
    "given", [["a", 5], [5, "a"], [[5], 6], [None, "a"], ["a", {"b": 1}], [PROMPT, 5]], ids=repr
)
def test_prompts_beside_something_else_are_refused(given):
    with pytest.raises(errors.TokenError, match="each entry"):
        several(given)


@pytest.mark.parametrize(
    "given", [[Pair("a", "b")], [Pair("a", "b"), Pair("c", "d")], ["a", Pair("a", "b")]], ids=len
)
def test_a_pair_is_no_prompt(given):
    with pytest.raises(errors.TokenError, match=r"pair\.clean"):
        several(given)


def test_batches_are_by_length_in_the_order_of_the_first():
    found = by_length([[1, 2, 3], [4, 5], (6, 7, 8), [9]])
    assert [(places, ids.tolist()) for places, ids in found] == [
        ((0, 2), [[1, 2, 3], [6, 7, 8]]),
        ((1,), [[4, 5]]),
        ((3,), [[9]]),
    ]
    assert found[0][1].dtype == mx.int32


def test_one_batch_is_of_one_length():
    assert one_batch(by_length([[1, 2], [3, 4]])).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(
        errors.TokenError, match=r"3 prompts of several lengths \(2, 1, 2 tokens\).*padding.*model.trace"
    ):
        one_batch(by_length([[1, 2], [3], [4, 5]]))
    with pytest.raises(errors.TokenError, match=r"\(1, 2, 3, 4, 5, 6, 7, 8, \.\.\. tokens\)"):
        one_batch(by_length([list(range(n)) for n in range(1, 11)]))
