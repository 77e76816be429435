from __future__ import annotations

import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel, metrics, prompts
from mlxtrace.errors import AlignmentError, EffectError, InputError
from mlxtrace.experiments.circuits import graph_of
from mlxtrace.experiments.edge_runs import EdgePairs, one_metric
from mlxtrace.experiments.pair_sets import read_pairs

IDS, OTHER = [3, 17, 40, 9, 120, 66], [3, 88, 40, 51, 120, 66]


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(models.make("gpt2", n_layer=1))


def test_each_pair_has_both_runs_whichever_is_patched(model):
    made = read_pairs(model, IDS, OTHER, target=5, foil=77)
    pairs = EdgePairs(model, made, "logit_diff")
    (noise,), (denoise,) = (list(pairs.each(graph_of(model), d)) for d in ("noise", "denoise"))
    np.testing.assert_allclose(noise.sweep.base.logits, denoise.sweep.source.logits, atol=1e-5)
    for pair in (noise, denoise):
        assert pair.name == "logit_diff" and pair.at == tuple(range(6))
        clean = pair.sweep.base if pair is noise else pair.sweep.source
        assert pair.values(clean.logits[None])[0, 0] == pytest.approx(pair.measured.clean["logit_diff"])


def test_positions_and_metrics_are_checked(model):
    made = read_pairs(model, IDS, OTHER, target=5, foil=77)
    (pair,) = EdgePairs(model, made, "logit", positions=[-1, 2]).each(graph_of(model), "noise")
    assert pair.at == (2, 5)
    for wrong in (["logit"], metrics.every_position(lambda x: x[:, 0, 0])):
        with pytest.raises(InputError):
            one_metric(wrong)
    with pytest.raises(InputError, match="path_patching"):
        EdgePairs(model, made, "logit", positions="regions")
    with pytest.raises(EffectError):
        next(EdgePairs(model, made, lambda x: np.ones(len(x))).each(graph_of(model), "noise"))


def test_circuits_want_prompts_of_one_length(model):
    EdgePairs(model, read_pairs(model, IDS, OTHER), "logit").check_lengths()
    pair = prompts.Pair(IDS, OTHER[1:])
    made = read_pairs(model, pair, align="ends")
    with pytest.raises(AlignmentError, match="6 and 5"):
        EdgePairs(model, made, "logit").check_lengths()
