"""The runs of whole answers as one batch, and their logits as they are measured."""

from __future__ import annotations

import models
import numpy as np

from mlxtrace import InterpretableModel
from mlxtrace.experiments.asked_answers import Asked
from mlxtrace.experiments.pair_sets import read_pairs
from mlxtrace.experiments.whole_answers import settle_whole
from mlxtrace.experiments.whole_runs import WholeRuns, between, flat, values_of

CLEAN, CORRUPTED = [3, 17, 5, 90, 41, 8], [3, 17, 66, 12, 41, 8]
ASKED = Asked(((20, 31, 7),), (44, 9))


def test_each_context_is_run_behind_both_prompts():
    model = InterpretableModel(models.make("gpt2", n_layer=1))
    pair = read_pairs(model, CLEAN, CORRUPTED).pairs[0]
    runs = WholeRuns(pair.roles("denoise"), ASKED)
    assert (runs.contexts, runs.read, runs.base.rows, runs.base.length) == (2, 3, 2, 8)
    base, source = runs.plain_logits(model)
    assert base.shape == source.shape == (2, 1, 3, model.vocab_size)
    for stack, prompt in ((base, CORRUPTED), (source, CLEAN)):
        for row, context in zip(stack[:, 0], ([20, 31], [44]), strict=True):
            alone = np.array(model.run_with_cache([*prompt, *context])[0])[0, 5:]
            np.testing.assert_allclose(row[: len(alone)], alone, atol=2e-4)
    np.testing.assert_array_equal(runs.stacked(flat(base)), base)
    half = between(base, source)
    np.testing.assert_allclose(half, (base[:, 0] + source[:, 0]) / 2, atol=1e-6)
    measured = settle_whole(model, pair, "logprob", None, None, (source, base), False, ASKED)
    assert values_of(measured, base)[0].mean() == measured.corrupted["logprob"]


def test_a_plain_pair_is_its_own_run():
    model = InterpretableModel(models.make("gpt2", n_layer=1))
    role = read_pairs(model, CLEAN, CORRUPTED).pairs[0].roles("denoise")
    runs = WholeRuns(role)
    assert (runs.contexts, runs.read, runs.base, runs.source) == (1, 1, role.base, role.source)
    base, source = runs.plain_logits(model)
    assert base.shape == (1, model.vocab_size) and flat(base) is base and runs.stacked(base) is base
    np.testing.assert_array_equal(between(base, source), (base.mean(0) + source.mean(0))[None] / 2)
