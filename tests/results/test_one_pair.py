"""The result of one pair answers what sets are asked."""

import numpy as np
from test_patching_result import full, layers

from mlxtrace.results.one_pair import OnePair


def test_one_pair_is_a_set_of_one():
    for result in (layers(), full()):
        assert isinstance(result, OnePair) and result.ids == []
        np.testing.assert_array_equal(result.per_pair, result.raw[None])
        assert (result.n == 1).all() and result.n.shape == result.raw.shape
        for found in (result.interval, result.low, result.high):
            assert np.isnan(found).all() and found.shape == result.recovery.shape
