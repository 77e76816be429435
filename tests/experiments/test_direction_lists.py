"""Lists of prompts for a direction: what they may hold, and what is said of everything else."""

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace.errors import InputError, PositionError, SubjectError, TokenError
from mlxtrace.experiments.direction_lists import read_lists

A, B = [[1, 2, 3], [4, 5, 6, 7]], [[7, 8]]


def test_prompts_are_read_with_their_positions(llama):
    marked = llama.prompt([1, 2, 3, 4], subject=range(1, 3))
    found = read_lists(
        llama, {"positive": [marked], "negative": [llama.prompt([9, 8, 7], subject=0)]}, "subject"
    )
    assert [at for ((_, at),) in found.values()] == [(1, 2), (0,)]
    last = read_lists(llama, {"positive": A, "negative": mx.array([[7, 8], [8, 9]])}, "last")
    assert [(prompt.ids, at) for prompt, at in last["positive"]] == [((1, 2, 3), (2,)), ((4, 5, 6, 7), (3,))]
    assert len(last["negative"]) == 2
    every = read_lists(llama, {"positive": [A[0]], "negative": B}, None)
    assert every["positive"][0][1] == (0, 1, 2)
    some = read_lists(llama, {"positive": tuple(A), "negative": np.array([[7, 8]])}, [-1, 0])
    assert some["positive"][1][1] == (0, 3)


@pytest.mark.parametrize(
    "given", ["a text", [1, 2, 3], (x for x in A), {"a": 1}, 7, None, [{"role": "user"}]]
)
def test_what_is_no_list_of_prompts_is_refused(llama, given):
    for lists in ({"positive": given, "negative": B}, {"positive": A, "negative": given}):
        with pytest.raises(InputError, match="is a list of prompts, not"):
            read_lists(llama, lists, "last")


def test_an_empty_list_and_a_prompt_in_both_are_refused(llama):
    with pytest.raises(InputError, match="negative is empty"):
        read_lists(llama, {"positive": A, "negative": []}, "last")
    with pytest.raises(InputError, match=r"prompt 1 of positive\) is in both lists"):
        read_lists(llama, {"positive": A, "negative": A[1:]}, "last")
    same = [llama.prompt([1, 2, 3, 4], subject=k) for k in (0, 2)]  # at other positions it is another one
    read_lists(llama, {"positive": same[:1], "negative": same[1:]}, "subject")


@pytest.mark.parametrize(
    ("positions", "error", "said"),
    [
        ("each", InputError, "many directions"),
        ("regions", InputError, "many directions"),
        ("subject_last", SubjectError, r"prompt 0 of positive: .*model\.prompt\(text, subject=\.\.\.\)"),
        ("lst", InputError, "closest: last"),
        (3, PositionError, "prompt 0 of positive"),
        ([0, 0], InputError, "twice"),
        (1.5, InputError, "prompt 0 of positive"),
    ],
)
def test_positions_that_a_prompt_lacks_are_named_with_it(llama, positions, error, said):
    with pytest.raises(error, match=said):
        read_lists(llama, {"positive": A, "negative": B}, positions)


def test_a_bad_prompt_is_named_by_its_place(llama):
    with pytest.raises(TokenError, match="prompt 1 of negative"):
        read_lists(llama, {"positive": A, "negative": [[7, 8], [10**6]]}, "last")
