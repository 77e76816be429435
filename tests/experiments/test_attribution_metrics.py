"""What gradients may be taken of, and what is refused."""

from __future__ import annotations

import mlx.core as mx
import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel, metrics
from mlxtrace.errors import InputError
from mlxtrace.experiments.attribution_metrics import check_method, checked_metric, slope_at
from mlxtrace.experiments.pair_sets import read_pairs
from mlxtrace.experiments.whole_answers import settle_whole


@pytest.mark.parametrize(
    ("metric", "method", "direction", "says"),
    [
        ("rank", "atp", "denoise", "rank has no gradient"),
        ("prob", "ig", "denoise", "use logprob or logit_diff"),
        ("kl", "atp", "noise", "it is flat there"),
        (metrics.every_position(lambda x: x[:, 0, 0]), "atp", "denoise", "a metric of every one"),
    ],
)
def test_what_is_refused(metric, method, direction, says):
    with pytest.raises(InputError, match=says):
        checked_metric(metric, method, direction)
    with pytest.raises(InputError, match=says):
        checked_metric(["logprob", metric], method, direction)


def test_what_is_taken():
    assert (
        checked_metric("auto", "ig", "denoise") == "logprob"
        and checked_metric("auto", "atp", "noise") == "auto"
    )
    assert checked_metric(["kl", "logprob_mean"], "ig", "noise") == ["kl", "logprob_mean"]
    assert checked_metric("no metric", "atp", "denoise") == "no metric"  # which `settle` refuses by name
    with pytest.raises(InputError, match=r"'atp2' is unknown; .*atp"):
        check_method("atp2")


def test_a_slope_is_that_of_the_metric_and_not_flat():
    model = InterpretableModel(models.make("gpt2", n_layer=1))
    pair = read_pairs(model, [1, 2, 3], [1, 4, 3]).pairs[0]
    both = tuple(np.random.RandomState(i).randn(1, model.vocab_size).astype(np.float32) for i in range(2))
    measured = settle_whole(model, pair, ["logprob", "kl"], 5, None, both, False)
    gradient = slope_at(measured, 0, "atp", "denoise", both[1])
    assert float(gradient(mx.array(both[1]))[0]) == pytest.approx(measured.corrupted["logprob"], rel=1e-4)
    with pytest.raises(InputError, match="gradient of zero"):
        flat = settle_whole(model, pair, lambda x: x[:, 0] * 0 + 1, 5, None, both, False)
        slope_at(flat, 0, "atp", "denoise", both[1])
