"""Averages over facts: roles of tokens, and intervals in which facts are the units."""

from __future__ import annotations

import numpy as np

from mlxtrace.prompts.averages import interval_of


def test_intervals_count_facts_not_tokens():
    """Copies of a token within its fact make the interval no narrower."""
    rng = np.random.default_rng(0)
    one = rng.normal(size=(8, 3))
    single = interval_of(one, np.ones(8))
    copied = interval_of(5 * one, np.full(8, 5))
    np.testing.assert_allclose(single, copied)
    assert np.isnan(interval_of(one[:0], np.ones(0))).all()
    mean, half = interval_of(one[:1], np.ones(1))
    np.testing.assert_array_equal(mean, one[0])
    assert np.isnan(half).all()
