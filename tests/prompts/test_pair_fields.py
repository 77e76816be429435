"""The fields of a pair in files: names of other libraries, and what may stand in them."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace import InterpretableModel
from mlxtrace.errors import InputError
from mlxtrace.prompts.pair_fields import ALIASES, CHECKS, FIELD, NUMBERS, chat_words, region, seen


def test_no_name_means_two_fields():
    names = [name for several in ALIASES.values() for name in several]
    assert len(names) == len(set(names)) == len(FIELD) and set(NUMBERS) <= set(names)
    assert all(several[0] == field for field, several in ALIASES.items()) and set(CHECKS) == set(ALIASES)


@pytest.mark.parametrize(
    ("field", "given", "kept"),
    [
        ("clean", " a\r\n\"b\" ▁", " a\r\n\"b\" ▁"),
        ("clean", [3, np.int64(0)], [3, 0]),
        ("clean", mx.array([1, 2]), [1, 2]),
        ("corrupted", np.array([[1, 2]]), [1, 2]),
        ("target", " Paris", " Paris"),
        ("target", "7", "7"),
        ("foil", 7, 7),
        ("subject", "x", "x"),
        ("subject", -1, -1),
        ("subject", range(2, 4), [2, 3]),
        ("id", 7, "7"),
        ("id", "", ""),
        ("regions", {"IO": "Mary", "S2": ("John", 2), "END": -1, "X": [0, 1], "none": None},
         {"IO": "Mary", "S2": ["John", 2], "END": -1, "X": [0, 1]}),
    ],
)  # fmt: skip
def test_what_may_stand_there(field, given, kept):
    found = CHECKS[field](given)
    assert found == kept and type(found) is type(kept)


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("clean", ""), ("clean", 5), ("clean", []), ("clean", [1, "2"]), ("clean", [-1]), ("clean", [True]),
        ("clean", [1.0]), ("clean", b"x"), ("clean", {"a": 1}), ("corrupted", float("nan")), ("clean", [[1], [2]]),
        ("target", ""), ("target", -1), ("target", 1.0), ("target", True), ("target", ["a"]), ("foil", {}),
        ("subject", " "), ("subject", []), ("subject", ["a"]), ("subject", 1.5), ("subject", True),
        ("regions", "a"), ("regions", [1]), ("regions", {"": 1}), ("regions", {"a": ""}), ("regions", {"a": ["b", 0]}),
        ("regions", {"a": ["b", 1, 2]}), ("regions", {"a": 1.5}), ("regions", {"a": ["b", "c"]}), ("id", 1.5),
        ("regions", {"a": []}), ("regions", {1: "a"}), ("id", True), ("id", ["a"]),
    ],
    ids=str,
)  # fmt: skip
def test_what_may_not(field, given):
    with pytest.raises(InputError):
        CHECKS[field](given)


def test_a_prompt_of_a_model_says_what_to_give():
    prompt = InterpretableModel("demo").prompt("The Louvre")
    with pytest.raises(InputError, match=r"is a Prompt.*\.text or list\(prompt.ids\)"):
        CHECKS["clean"](prompt)


def test_errors_are_short():
    assert len(seen("x" * 1000)) < 70 and seen("a\nb") == "'a\\nb'"
    with pytest.raises(InputError, match=r"not a text, .text, k. or positions"):
        region(2.5)


def test_a_chat_in_words():
    chat = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "In Rome"}]
    assert chat_words(chat) == "user: Where?\nassistant: In Rome"
    assert chat_words("a text") == chat_words([1, 2]) == ""


def test_a_chat_that_json_does_not_hold():
    message = {"role": "user", "content": "a"}
    assert CHECKS["clean"]((message,)) == [message]
    with pytest.raises(InputError, match="a chat that JSON does not hold"):
        CHECKS["clean"]([{**message, "tool": object()}])
