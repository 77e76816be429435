"""Many prompts in batches say what each says alone."""

from __future__ import annotations

import models
import numpy as np
import pytest

import mlxtrace
from mlxtrace import metrics
from mlxtrace.prompts import last_logits
from mlxtrace.prompts.last_logits import batches, of_each


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3_next", "mamba"])
def test_a_batch_is_the_loop(name):
    model = mlxtrace.InterpretableModel(models.make(name))
    rng = np.random.RandomState(0)
    prompts = [model.prompt(rng.randint(0, models.VOCAB, n).tolist()) for n in (5, 3, 5, 1, 3, 5)]
    found = of_each(model, prompts, lambda i, p: (i, p))
    assert [i for i, _ in found] == list(range(6))
    for prompt, (_, p) in zip(prompts, found, strict=True):
        alone = metrics.softmax(np.array(model.run_with_cache(prompt, [])[0])[0, -1])
        assert p.dtype == np.float64 and np.abs(p - alone).max() < 1e-5


def test_nothing_is_run_for_nothing():
    assert of_each(None, [], lambda i, p: p) == []


@pytest.mark.parametrize("lengths", [[1], [3, 3, 2] * 90, [5000, 5000, 1], [100] * 200, list(range(1, 30))])
def test_batches_have_one_length_and_are_not_too_large(lengths):
    made = batches(lengths)
    assert sorted(i for batch in made for i in batch) == list(range(len(lengths)))
    for batch in made:
        assert len({lengths[i] for i in batch}) == 1
        rows, tokens = len(batch), len(batch) * lengths[batch[0]]
        assert rows <= last_logits.ROWS and (tokens <= last_logits.TOKENS or rows == 1)
    assert (
        len(made)
        <= len(set(lengths)) + sum(lengths) / last_logits.TOKENS * 2 + len(lengths) / last_logits.ROWS
    )
