"""A pair by hand: its numbers, and that an experiment whose values, baselines or recoveries are off is seen."""

from __future__ import annotations

import numpy as np
import pytest
from faulty_models import IgnoringInput, Model

from mlxtrace import InterpretableModel
from mlxtrace.laws.law import DoesNotApply
from mlxtrace.laws.model_under_test import LENGTH, ModelUnderTest
from mlxtrace.laws.pair_by_hand import METRICS, PairByHand, window_of


@pytest.fixture(scope="module")
def pair():
    return PairByHand(ModelUnderTest(InterpretableModel(Model())), ["mlp", "resid_post"], [1])


def test_target_and_foil_are_what_the_runs_differ_in_most(pair):
    gaps = pair.clean_logits - pair.corrupted_logits[0]
    assert gaps[pair.target] == gaps.max() > 0 > gaps.min() == gaps[pair.foil]
    assert pair.plain_values("logit") == (
        pair.clean_logits[pair.target],
        pair.corrupted_logits[0, pair.target],
    )


def test_the_whole_stream_is_the_other_run(pair):
    every = range(LENGTH)
    for direction, right in (("denoise", pair.clean_logits), ("noise", pair.corrupted_logits[0])):
        patched = pair.patched(direction, "resid_post", [1], every, every)
        np.testing.assert_allclose(patched[0], right, atol=1e-5)


@pytest.mark.parametrize("what", ["raw", "clean", "corrupted", "recovery"])
def test_each_number_of_a_result_is_compared(pair, what):
    result = pair.experiment("mlp", layers=1, positions=[3])
    values = pair.values(pair.patched("denoise", "mlp", [1], [3], [3]))
    assert pair.error_of(result, values) < 1e-5
    if what in ("raw", "recovery"):
        setattr(result, what, getattr(result, what) * 1.01)
    else:
        getattr(result, what)[METRICS[0]] *= 1.01
    assert pair.error_of(result, values) > 1e-4


def test_results_of_another_size_are_infinitely_wrong(pair):
    result = pair.experiment("mlp", layers=1, positions=[3])
    assert pair.error_of(result, np.zeros((3, 2))) == float("inf")


def test_runs_that_hardly_differ_are_no_pair():
    tested = ModelUnderTest(InterpretableModel(Model(IgnoringInput)))
    with pytest.raises(DoesNotApply, match="next to nothing"):
        PairByHand(tested, ["mlp"], [1])


def test_windows():
    assert window_of(5, 1, 12) == [5] and window_of(5, 2, 12) == [4, 5] and window_of(5, 3, 12) == [4, 5, 6]
    assert window_of(0, 4, 12) == [0, 1] and window_of(11, 3, 12) == [10, 11]
