"""The noise floor of the tests: it is measured, it grows no wider than its cap, and it says what it saw."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import models
import noise
import numpy as np
import pytest

from mlxtrace import InterpretableModel
from mlxtrace.laws.law import TooNoisy
from mlxtrace.laws.rounding import Tolerance, measure


class Moody(nn.Module):
    """A head whose logits grow by a share with every further row."""

    def __init__(self, inner, share):
        super().__init__()
        self.inner, self.share = inner, share

    def __call__(self, x):
        return self.inner(x) * (1 + self.share * (x.shape[0] - 1))


def moody(share):
    net = models.make("llama")
    net.lm_head = Moody(net.lm_head, share)
    return InterpretableModel(net)


def test_an_honest_model_is_compared_to_its_rounding(llama):
    assert noise.floor(llama) < 1e-5 and noise.floor(llama, "probability") < 1e-6
    assert noise.allowed(llama) < 1e-4
    noise.close([1.0, 2.0], [1.0, 2.0], llama)
    with pytest.raises(AssertionError, match="own move by"):
        noise.close([1.0, 2.001], [1.0, 2.0], llama)
    with pytest.raises(AssertionError, match="own move by"):
        noise.close([0.5], [0.5001], llama, "probability")


def test_the_floor_is_measured_over_rows_and_batches():
    model = moody(5e-6)
    assert 3e-5 < noise.floor(model) < 4e-5  # up to seven rows more
    assert noise.allowed(model) == pytest.approx(10 * noise.floor(model))


def test_a_floor_above_the_cap_fails_even_where_the_numbers_agree():
    model = moody(1e-2)  # one per cent
    for of in ("logit", "probability"):
        with pytest.raises(AssertionError, match="nothing could be told"):
            noise.close([1.0], [1.0], model, of)


def test_a_row_that_hears_its_neighbours_is_noise_above_the_cap():
    net = models.make("llama")
    inner = net.lm_head

    class Hearing(nn.Module):
        def __call__(self, x):
            return inner(x + 1e-2 * mx.roll(x, 1, axis=0))

    net.lm_head = Hearing()
    with pytest.raises(AssertionError, match="nothing could be told"):
        noise.allowed(InterpretableModel(net))


def test_tokens_that_a_model_rules_out_are_left_aside(llama):
    noise.close([np.inf, 1.0], [np.inf, 1.0], llama)
    with pytest.raises(AssertionError):
        noise.close([np.nan, 1.0], [0.0, 1.0], llama)


# ---- the tolerance of the laws


def test_the_tolerance_of_an_honest_model_is_rounding(llama):
    tolerance = Tolerance(llama.resolver)
    assert tolerance.floor.typical <= tolerance.floor.most < 1e-5
    assert tolerance.limit == max(2e-5, 10 * tolerance.floor.most) and tolerance.least == 2e-5
    assert tolerance.cap == 2e-3


def test_the_tolerance_grows_with_the_model_up_to_the_cap():
    small = Tolerance(moody(2e-7).resolver)  # by row: up to 59 rows beside it
    assert small.least < small.limit == 10 * small.floor.most < small.cap
    assert Tolerance(moody(1e-5).resolver).limit == 2e-3
    with pytest.raises(TooNoisy, match=r"move by up to .*the most that any law may allow is 0.002"):
        _ = Tolerance(moody(1e-3).resolver).limit


def test_a_row_that_is_no_number_moves_infinitely():
    class Broken(nn.Module):
        def __call__(self, tokens, cache=None):
            return mx.full((*tokens.shape, 160), mx.nan if tokens.shape[0] == 1 else 1.0)

    assert measure(Broken(), 160).most == float("inf")


def test_half_precision_is_allowed_more():
    net = models.make("llama", dtype=mx.bfloat16)
    tolerance = Tolerance(InterpretableModel(net).resolver)
    assert tolerance.least == tolerance.cap == tolerance.limit == 0.1
