"""Metrics against formulas written out by hand, and everything that must be refused."""

import math

import numpy as np
import pytest

from mlxtrace import metrics
from mlxtrace.errors import EffectError, InputError, MlxtraceError

CLEAN = np.array([2.0, -1.0, 0.5, 3.0, 0.0])
RUN = np.array([1.0, 4.0, 0.5, -2.0, 1.0])


def bind(metric, target=3, foil=1, clean=CLEAN):
    return metrics.bind(metric, target=target, foil=foil, clean_logits=clean)


def by_hand(name, run, clean, target=3, foil=1):
    p = [math.exp(x) / sum(math.exp(y) for y in run) for x in run]
    q = [math.exp(x) / sum(math.exp(y) for y in clean) for x in clean]
    dot = sum(a * b for a, b in zip(run, clean, strict=True))
    norms = math.sqrt(sum(a * a for a in run) * sum(b * b for b in clean))
    return {
        "prob": p[target],
        "logprob": math.log(p[target]),
        "logit": run[target],
        "logit_diff": run[target] - run[foil],
        "prob_diff": p[target] - p[foil],
        "kl": sum(b * math.log(b / a) for a, b in zip(p, q, strict=True)),
        "rank": sum(x > run[target] for x in run),
        "l2": math.sqrt(sum((a - b) ** 2 for a, b in zip(run, clean, strict=True))),
        "cosine": dot / norms,
    }[name]


@pytest.mark.parametrize("name", metrics.METRICS)
def test_formula(name):
    assert bind(name)(RUN) == pytest.approx(by_hand(name, RUN, CLEAN), rel=1e-12)


@pytest.mark.parametrize("name", metrics.METRICS)
def test_leading_axes_and_chunks_do_not_matter(name, monkeypatch):
    logits = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    whole = bind(name)(logits)
    assert whole.shape == (3, 4) and whole.dtype == np.float64
    monkeypatch.setattr(metrics, "CHUNK_BYTES", 5 * 8 * 7)  # seven rows at a time, of twelve
    np.testing.assert_array_equal(bind(name)(logits), whole)
    assert whole[2, 1] == pytest.approx(by_hand(name, logits[2, 1].astype(float), CLEAN), rel=1e-6)


@pytest.mark.parametrize("name,value", [("kl", 0), ("l2", 0), ("cosine", 1), ("rank", 0)])
def test_the_clean_run_against_itself(name, value):
    assert bind(name)(CLEAN) == pytest.approx(value, abs=1e-15)


@pytest.mark.parametrize("name", ["prob", "logprob", "logit_diff", "kl", "rank"])
def test_a_constant_added_to_all_logits_changes_nothing(name):
    assert bind(name)(RUN + 1000) == pytest.approx(bind(name)(RUN), rel=1e-9)


def test_softmax_is_stable_and_exact_over_a_large_vocabulary():
    p = metrics.softmax(np.full(200_000, 1e4, dtype=np.float32))
    assert abs(p.sum() - 1) < 1e-12 and p[0] == pytest.approx(1 / 200_000, rel=1e-12)
    assert metrics.log_softmax([0.0, -1e6])[1] == -1e6


def test_ties_do_not_count_in_rank():
    assert bind("rank", target=0)(np.array([1.0, 1, 2, 1, 0])) == 1


def test_a_token_that_is_ruled_out_adds_nothing_to_kl():
    clean = np.array([0.0, -np.inf, 0])
    assert bind("kl", clean=clean)(np.array([0.0, 5, 0])) == pytest.approx(
        math.log(2 + math.exp(5)) - math.log(2)
    )


def test_a_function_gets_rows_and_cannot_spoil_the_caller_s_logits():
    logits = np.stack([RUN, CLEAN])

    def spread(x):
        assert x.shape[1:] == (5,) and x.dtype == np.float64
        x -= x.mean(-1, keepdims=True)
        return x.max(-1)

    metric = bind(spread)
    kept = logits.copy()
    assert metric.name == "spread"
    np.testing.assert_allclose(metric(logits), logits.max(-1) - logits.mean(-1))
    np.testing.assert_array_equal(logits, kept)


@pytest.mark.parametrize(
    "function,says",
    [
        (lambda x: x, r"returned shape \[2, 5\].*one number per row"),
        (lambda x: x.sum(), r"returned shape \[\]"),
        (lambda row: row[3] - row[1], "IndexError"),  # written for a single row
        (lambda x: None, "nan|returned shape"),
        (lambda x: ["a", "b"], "no numbers"),
        (lambda x: np.full(len(x), np.nan), "finite"),
    ],
)
def test_a_function_that_is_wrong_is_refused_when_bound(function, says):
    with pytest.raises(InputError, match=says):
        bind(function)


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
