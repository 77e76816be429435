"""What logits say: the likeliest tokens, ties and all, and one token's probability and rank."""

import numpy as np
import pytest

from mlxtrace.engine.top_tokens import joined, likeliest, read
from mlxtrace.errors import InputError

ROWS = np.array([[0.0, 2.0, 1.0, 2.0], [3.0, -np.inf, 1.0, 0.0]], dtype=np.float32)


def test_the_likeliest_come_first_and_of_equal_ones_the_smaller_id():
    assert likeliest(ROWS[0], 3).tolist() == [1, 3, 2]
    row = np.random.default_rng(0).integers(0, 9, 400).astype(np.float32)  # ties everywhere
    for k in (1, 7, 399, 400):
        assert likeliest(row, k).tolist() == np.argsort(-row, kind="stable")[:k].tolist()


def test_probabilities_and_ranks():
    said = read(ROWS, 2, token=2)
    right = np.exp(ROWS.astype(float)) / np.exp(ROWS.astype(float)).sum(1, keepdims=True)
    assert said.ids.tolist() == [[1, 3], [0, 2]]
    np.testing.assert_allclose(said.probabilities, np.take_along_axis(right, said.ids, 1))
    np.testing.assert_allclose(said.prob, right[:, 2])
    assert said.rank.tolist() == [2, 1]
    assert read(ROWS, 1, token=1).prob[1] == 0 and read(ROWS, 1).rank.tolist() == [0, 0]


def test_parts_are_joined_row_by_row():
    whole, parts = read(ROWS, 2, 3), joined([read(ROWS[:1], 2, 3), read(ROWS[1:], 2, 3)])
    assert all(
        np.array_equal(getattr(whole, n), getattr(parts, n)) for n in ("ids", "probabilities", "prob", "rank")
    )


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_model_that_overflows_is_said(wrong):
    rows = ROWS.copy()
    rows[1, 2] = wrong
    with pytest.raises(InputError, match="NaN or infinite"):
        read(rows, 1, 0)
