"""The formulas of metrics: every metric has one of its own, and those that ship are held to numbers worked out here."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlxtrace.laws.metric_formulas import FORMULAS, metric_values
from mlxtrace.metric_table import METRICS

X, CLEAN, TARGET, FOIL = np.array([[1.0, 3.0, 2.0, 0.5]]), np.array([2.0, 1.0, 0.0, 3.0]), 2, 1


def softmax(x):
    """By plain sums of Python's own numbers."""
    total = math.fsum(math.exp(v) for v in x)
    return [math.exp(v) / total for v in x]


def divergence(clean):
    """KL(clean || X)."""
    pairs = zip(softmax(clean), softmax(X[0]), strict=True)
    return math.fsum(p * math.log(p / q) for p, q in pairs if p > 0)


RIGHT = {
    "prob": softmax(X[0])[TARGET],
    "logprob": math.log(softmax(X[0])[TARGET]),
    "logit": 2.0,
    "logit_diff": -1.0,
    "prob_diff": softmax(X[0])[TARGET] - softmax(X[0])[FOIL],
    "kl": divergence(CLEAN),
    "rank": 1.0,
    "l2": np.linalg.norm(X[0] - CLEAN),
    "cosine": X[0] @ CLEAN / (np.linalg.norm(X[0]) * np.linalg.norm(CLEAN)),
}


def test_every_metric_has_a_formula_and_no_other_has():
    assert set(FORMULAS) == set(METRICS) and set(RIGHT) <= set(FORMULAS)


@pytest.mark.parametrize("name", RIGHT)
def test_formulas(name):
    assert metric_values(name, X, CLEAN, TARGET, FOIL) == pytest.approx([RIGHT[name]], rel=1e-12)
    assert metric_values(name, np.stack([X, X]), CLEAN, TARGET, FOIL).shape == (2, 1)


def test_a_metric_without_a_formula_cannot_be_measured():
    with pytest.raises(KeyError, match=r"entropy.*no formula of its own: write it into FORMULAS"):
        metric_values("entropy", X, CLEAN, TARGET, FOIL)


def test_tokens_that_the_clean_run_rules_out_add_nothing_to_kl():
    clean = np.array([1.0, -np.inf, 0.0, 2.0])
    expected = divergence(clean)
    assert metric_values("kl", X, clean, TARGET, FOIL) == pytest.approx([expected])
