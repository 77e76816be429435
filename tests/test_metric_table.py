"""Every entry of the table of metrics: its formula, by hand and through every use that there is of it."""

import math
from functools import partial

import mlx.core as mx
import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel, metrics, plotting
from mlxtrace.errors import EffectError
from mlxtrace.laws import metric_formulas
from mlxtrace.metric_table import METRICS, CleanRun, MetricKind

CLEAN = np.array([2.0, -1.0, 0.5, 3.0, 0.0])
RUN = np.array([1.0, 4.0, 0.5, -2.0, 1.0])
IDS, OTHER = [3, 17, 5, 90, 41, 8, 77], [3, 17, 66, 12, 41, 8, 77]


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
    }.get(name, math.nan)


@pytest.mark.parametrize("name", METRICS)
def test_formula(name):
    expected = by_hand(name, RUN, CLEAN)
    second = metric_formulas.metric_values(name, RUN, CLEAN, 3, 1)
    assert bind(name)(RUN) == pytest.approx(second, rel=1e-12)
    assert math.isnan(expected) or bind(name)(RUN) == pytest.approx(expected, rel=1e-12)


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


# ---- every entry, through every use


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(models.make("llama", seed=2))


def last_logits(model, ids, edits=None):
    with model.trace(ids, interventions=edits or {}) as trace:
        pass
    return np.array(trace.output[0, -1], dtype=np.float64)


@pytest.mark.parametrize("name", METRICS)
def test_an_entry_is_a_metric_wherever_one_is_taken(name, model, tmp_path):
    """bind, activation_patching, causal_effects, tables and figures, against the formula that the laws have."""
    clean, corrupted = last_logits(model, IDS), last_logits(model, OTHER)
    target, foil = int((clean - corrupted).argmax()), int((clean - corrupted).argmin())
    with model.trace(IDS):
        mlp = model.layers[1].mlp.output.save()
    patched = last_logits(model, OTHER, {"layers.1.mlp": lambda x: mlp})

    def value(logits):
        return float(metric_formulas.metric_values(name, logits, clean, target, foil))

    found = metrics.bind(name, target=target, foil=foil, clean_logits=clean)
    assert found(patched) == pytest.approx(value(patched), rel=1e-12)
    options = {"metric": name, "target": target, "foil": foil, "progress": False}
    result = model.activation_patching(IDS, OTHER, "mlp", **options)
    numbers = [result.clean, result.corrupted, result.raw[1]]
    np.testing.assert_allclose(numbers, [value(x) for x in (clean, corrupted, patched)], atol=2e-3)
    effects = model.causal_effects(OTHER, IDS, "mlp", **options)
    np.testing.assert_allclose(effects.direct, result.raw, atol=1e-9)
    assert effects.base_value == pytest.approx(result.corrupted) and effects.metric == name
    assert name in repr(result) and name in repr(effects) and name in result.to_rows()[0]
    assert METRICS[name].words in plotting.plot(result, tmp_path / "x.png").axes[0].get_ylabel()
    assert plotting.effects(effects).axes[0].get_ylabel().replace("\\", "") == f"change of {name}"


def test_the_laws_have_a_second_formula_of_every_entry():
    assert set(metric_formulas.FORMULAS) == set(METRICS)
    with pytest.raises(KeyError, match="FORMULAS"):
        metric_formulas.metric_values("new", RUN, CLEAN, 3, 1)


def test_a_new_entry_is_all_that_a_metric_needs(model, monkeypatch):
    """And a name that needs two answers is known by its formula alone."""
    kind = MetricKind("odds", "log-odds", lambda x, target, foil: x[:, target] - x[:, foil], (1e-3, 0.0))
    assert kind.needs == ("target", "foil")
    monkeypatch.setitem(METRICS, "odds", kind)
    options = {"target": 3, "foil": 9, "progress": False}
    found = model.activation_patching(IDS, OTHER, metric=["odds", "logit_diff"], **options)
    np.testing.assert_array_equal(found.raw[0], found.raw[1])
    with pytest.raises(EffectError, match="odds sets two answers"):
        model.causal_effects(OTHER, IDS, metric="odds", **{**options, "foil": 3})


@pytest.mark.parametrize("name", METRICS)
def test_an_entry_says_what_it_is(name):
    kind = METRICS[name]
    assert kind.name == name and kind.words and set(kind.needs) <= {"target", "foil", "clean"}
    assert len(kind.floor) == 2 and max(kind.floor) > 0


def test_a_clean_run_is_looked_at_once():
    run = CleanRun(np.array([0.0, -np.inf, 0.0]))
    assert run.probs is run.probs and run.probs.tolist() == [0.5, 0.5]
    assert run.possible.tolist() == [True, False, True]


# ---- the same formulas in MLX, for what differentiates them

WITH_GRADIENT = [kind for kind in METRICS.values() if kind.gradient is not None]


def _bound(kind, logits: np.ndarray):
    given = {"target": 3, "foil": 5, "clean": CleanRun(logits[0])}
    needed = {name: given[name] for name in kind.needs}
    return partial(kind.formula, **needed), partial(kind.gradient, **needed)


@pytest.mark.parametrize("kind", WITH_GRADIENT, ids=lambda kind: kind.name)
@pytest.mark.parametrize("ruled_out", [False, True])
def test_both_formulas_are_one_and_the_gradient_is_its_slope(kind, ruled_out):
    logits = 3 * np.random.RandomState(0).randn(3, 20)
    if ruled_out:
        logits[:, 7] = -np.inf
        if kind.name in ("l2", "cosine"):
            pytest.skip("a distance from logits that are infinite is none")
    formula, gradient = _bound(kind, logits)
    rows = logits[1:]  # not the clean run, where a distance from it has no slope
    values, slope = mx.value_and_grad(lambda x: (gradient(x).sum(), gradient(x)))(
        mx.array(rows.astype(np.float32))
    )
    assert np.allclose(np.array(values[1]), formula(rows), rtol=1e-5, atol=1e-6)
    for token in (0, 3, 5, 11):
        step = np.zeros_like(rows)
        step[:, token] = 1e-5
        right = (formula(rows + step) - formula(rows - step)) / 2e-5
        assert np.allclose(np.array(slope)[:, token], right, rtol=1e-3, atol=1e-6), token


def test_a_rank_has_no_gradient():
    assert [kind.name for kind in METRICS.values() if kind.gradient is None] == ["rank"]
