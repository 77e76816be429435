"""The held-out share against a double loop, and without the bias that a simpler scheme has."""

import numpy as np
import pytest

from mlxtrace.experiments.separation import held_out


def by_loop(positive, negative):
    """One pair left out at a time, the direction fitted on all others."""
    right = []
    for i, p in enumerate(positive):
        for j, n in enumerate(negative):
            direction = np.delete(positive, i, 0).mean(0) - np.delete(negative, j, 0).mean(0)
            a, b = p @ direction, n @ direction
            right.append(0.5 if a == b else float(a > b))
    return float(np.mean(right))


@pytest.mark.parametrize("sizes", [(3, 3), (5, 3), (4, 9)])
def test_it_is_the_double_loop(sizes):
    draw = np.random.RandomState(0)
    for shift in (0.0, 0.5, 3.0):
        positive, negative = draw.randn(sizes[0], 8) + shift, draw.randn(sizes[1], 8)
        assert held_out(positive, negative) == by_loop(positive, negative)
        assert held_out(positive + 1e4, negative + 1e4) == held_out(positive, negative)


def test_of_prompts_that_differ_in_nothing_it_is_a_half_on_average():
    """A single prompt left out would give less: the mean of the others lies on its other side."""
    draw = np.random.RandomState(1)
    found = [held_out(draw.randn(6, 20), draw.randn(6, 20)) for _ in range(400)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)


def test_ties_count_half_and_classes_far_apart_are_told_apart():
    same = np.ones((4, 3))
    assert held_out(same, same) == 0.5
    assert held_out(same + np.arange(3), same - 5) == 1.0


@pytest.mark.parametrize("sizes", [(1, 1), (2, 5), (5, 2)])
def test_of_too_few_there_is_none(sizes):
    assert held_out(np.ones((sizes[0], 4)), np.zeros((sizes[1], 4))) is None
