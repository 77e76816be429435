"""The measure of greater-than, recomputed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from word_tokenizer import model_of

import mlxtrace
from mlxtrace import prompts
from mlxtrace.errors import InputError
from mlxtrace.prompts import Pair

CLEAN = "The war lasted from the year 1732 to the year 17"


@pytest.fixture(scope="module")
def model():
    return model_of(["year"])


def test_the_sum_after_minus_the_sum_up_to(model):
    metric = prompts.greater_than_metric(model, Pair(CLEAN))
    logits = np.random.RandomState(0).normal(size=(3, model.vocab_size)) * 3
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = []
    for row in p:
        tokens = [model.encode(f"{CLEAN}{year:02}")[-1] for year in range(100)]
        assert len(set(tokens)) == 100
        expected.append(sum(row[tokens[y]] for y in range(33, 100)) - sum(row[tokens[y]] for y in range(33)))
    assert np.abs(metric(logits) - expected).max() < 1e-12
    for year, value in ((33, 1), (32, -1), (99, 1), (0, -1)):
        sure = np.full((1, model.vocab_size), -1e4)
        sure[0, model.encode(f"{CLEAN}{year:02}")[-1]] = 0
        assert metric(sure) == pytest.approx([value])


def test_as_a_metric_of_an_experiment(model):
    pair = prompts.load("greater_than", model=model, n=1)[0]
    metric = prompts.greater_than_metric(model, pair)
    result = model.activation_patching(pair.clean, pair.corrupted, metric=metric, component="resid_post")
    clean = np.array(model.run_with_cache(pair.clean, [])[0])[0, -1:].astype(np.float64)
    assert result.clean == pytest.approx(float(metric(clean)[0]), abs=1e-6)


def test_a_year_that_is_one_token_changes_nothing():
    """GPT-2 reads 1700 as one token: YY is the token that it is behind other centuries."""
    whole, split = model_of(["1700", "year"]), model_of(["year"])
    assert whole.encode("year 1700")[-1:] != whole.encode("year 1600")[-1:]
    logits = np.zeros((1, whole.vocab_size))
    logits[0, whole.encode("year 1600")[-1]] = 50
    assert prompts.greater_than_metric(whole, Pair(CLEAN))(logits) == pytest.approx([-1])
    assert prompts.greater_than_metric(split, Pair(CLEAN))(np.zeros((1, split.vocab_size))).shape == (1,)


def test_what_has_no_such_measure(model):
    for odd in (Pair("The war lasted from the year 1732 to the year 18"), Pair("x"), Pair([1, 2])):
        with pytest.raises(InputError, match=r"from the year XXYY to the year XX"):
            prompts.greater_than_metric(model, odd)
    with pytest.raises(InputError, match="of 100 years are not one token"):
        prompts.greater_than_metric(mlxtrace.InterpretableModel("demo"), Pair(CLEAN))
