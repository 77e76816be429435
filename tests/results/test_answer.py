"""Answers are tokens wherever a token id is wanted."""

import numpy as np

from mlxtrace.results.answer import Answer


def test_an_answer_is_its_token():
    answer = Answer(2, " Paris", 0.9, 0.1)
    assert int(answer) == 2 and np.array([1.0, 2.0, 3.0])[answer] == 3 and "abc"[answer] == "c"
    assert answer == Answer(2, " Paris", 0.9, 0.1) and len({answer, Answer(2, " Paris", 0.9, 0.1)}) == 1
