"""Metrics bound to answers and a clean run, recoveries, and everything that must be refused."""

import numpy as np
import pytest
from test_metric_table import CLEAN, RUN, bind

from mlxtrace import metrics
from mlxtrace.errors import EffectError, InputError, MlxtraceError
from mlxtrace.laws.metric_formulas import metric_values


@pytest.mark.parametrize("name", metrics.METRICS)
def test_leading_axes_and_chunks_do_not_matter(name, monkeypatch):
    logits = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    whole = bind(name)(logits)
    assert whole.shape == (3, 4) and whole.dtype == np.float64
    monkeypatch.setattr(metrics, "CHUNK_BYTES", 5 * 8 * 7)  # seven rows at a time, of twelve
    np.testing.assert_array_equal(bind(name)(logits), whole)
    assert whole[2, 1] == pytest.approx(
        metric_values(name, logits[2, 1].astype(float), np.asarray(CLEAN, dtype=float), 3, 1), rel=1e-6
    )


@pytest.mark.parametrize(
    "kwargs,says",
    [
        (dict(metric="porb"), "closest: prob"),
        (dict(metric=3), "no metric 3"),
        (dict(metric="prob", target=None), "target="),
        (dict(metric="prob", target=5), "0 to 4"),
        (dict(metric="prob", target=1.5), "token id"),
        (dict(metric="prob", target=True), "token id"),
        (dict(metric=np.array(["prob"])), "no metric"),
        (dict(metric="rank", target=-1), "0 to 4"),
        (dict(metric="logit_diff", foil=None), "foil="),
        (dict(metric="logit_diff", foil=3), "both token 3"),
        (dict(metric="logit_diff", foil=9), "foil 9"),
        (dict(metric="kl", clean=np.zeros((1, 5))), r"\[1, 5\]"),
        (dict(metric="kl", clean=np.array([np.nan, 0])), "NaN"),
    ],
)
def test_bad_input(kwargs, says):
    with pytest.raises(InputError, match=says):
        bind(**kwargs)


def test_broken_runs_are_refused():
    metric = bind("prob")
    with pytest.raises(InputError, match="1 of 2 runs"):
        metric(np.stack([RUN, RUN * np.nan]))
    with pytest.raises(InputError, match="vocabulary of 5"):
        metric(RUN[:4])


def test_bind_all_names_each_metric_once():
    context = dict(target=3, foil=1, clean_logits=CLEAN)
    prob = lambda x: x[:, 0]  # noqa: E731
    prob.__name__ = "prob"
    names = [m.name for m in metrics.bind_all(["prob", prob, prob, "kl"], **context)]
    assert names == ["prob", "prob_2", "prob_3", "kl"]
    assert metrics.bind_all("l2", **context)[0].name == "l2"
    for bad in (["kl", "kl"], []):
        with pytest.raises(InputError):
            metrics.bind_all(bad, **context)


def test_a_refused_recovery_of_improbable_answers_names_the_metric_that_tells_them_apart():
    with pytest.raises(EffectError, match='metric="logprob"'):
        metrics.recovery(0.0, 4e-74, 4e-81, "prob")
    with pytest.raises(EffectError) as refused:
        metrics.recovery(0.0, 0.5, 0.5, "prob")
    assert "logprob" not in str(refused.value)


def test_recovery():
    np.testing.assert_allclose(
        metrics.recovery([0.1, 0.9, 0.5, 0.0, 1.3], 0.9, 0.1), [0, 100, 50, -12.5, 150]
    )
    assert metrics.recovery(1.0, 0, 4, "kl") == 75  # a metric that corruption makes larger


@pytest.mark.parametrize("name", [*metrics.METRICS, "mine"])
def test_recovery_is_refused_below_the_floor_and_only_there(name):
    value = 0.8
    least = metrics.floor(name, value, value)
    metrics.recovery(value, value, value - 1.01 * least, name)
    for corrupted in (value, value - 0.99 * least, float("nan")):
        with pytest.raises(EffectError, match=r"clean 0\.8") as caught:
            metrics.recovery(value, value, corrupted, name)
        assert name in str(caught.value) and isinstance(caught.value, MlxtraceError)


def test_improbable_targets_may_still_have_a_recovery():
    assert metrics.recovery(1e-7, 1e-6, 1e-9, "prob") == pytest.approx(9.91, abs=0.01)
