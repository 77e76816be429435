"""What is measured once per model: remembered, forgotten with the weights, and no less than what is there."""

import gc

import mlx.core as mx
import more_models
import numpy as np
import pytest
from mlx_lm.models.cache import make_prompt_cache
from models import make
from peaks import tried_again

from mlxtrace import InterpretableModel, errors
from mlxtrace.engine import calibration, choice
from mlxtrace.engine.joint_runs import Runs
from mlxtrace.engine.runs import Run, capture


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(make("llama"))


def test_what_is_measured_is_remembered_by_its_arguments(model):
    calls = []

    @calibration.per_model
    def measured(resolver, name, more=0):
        calls.append((name, more))
        return len(calls)

    assert [measured(model.resolver, "a"), measured(model.resolver, "b"), measured(model.resolver, "a")] == [
        1,
        2,
        1,
    ]
    assert measured(model.resolver, "a", more=1) == 3
    other = InterpretableModel(make("llama"))
    assert measured(other.resolver, "a") == 4
    model.resolver.measured.clear()
    assert measured(model.resolver, "a") == 5


def test_seconds_of_what_is_done_once_are_counted_once(monkeypatch):
    seconds = iter([0.0, 1.0, 8.0, 10.0, 11.0])
    model = InterpretableModel(make("llama"))
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: next(seconds))
    with (
        calibration.timed_once(model.resolver),
        calibration.timed_once(model.resolver),
    ):  # 0 to 8, and from 1 on
        pass
    assert calibration.once(model.resolver) == 8
    with pytest.raises(KeyError), calibration.timed_once(model.resolver):  # what fails took time, too
        raise KeyError
    assert calibration.once(model.resolver) == 9


def test_a_sweep_takes_no_time_of_what_is_done_once(monkeypatch):
    model = InterpretableModel(make("llama"))
    made = calibration.rounding

    def slow(resolver):
        with calibration.timed_once(resolver):
            resolver.measured["once"] = calibration.once(resolver) + 500.0
        return made(resolver)

    plan = model.activation_patching([5, 6, 7], [5, 8, 7], progress=False, plan_only=True)
    assert plan.elapsed is None and 0 < plan.once < 100 and f"{plan.once:.2g} s once" in str(plan)
    monkeypatch.setattr(calibration, "rounding", slow)
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: calibration.once(model.resolver))
    assert model.activation_patching([5, 6, 7], [5, 8, 7], progress=False).plan.elapsed == pytest.approx(0)


@pytest.mark.parametrize("experiment", ["activation_patching", "causal_trace"])
def test_a_plan_has_the_time_of_all_that_is_done_once(experiment):
    """What a run says of its sites is measured once as well: a run after a plan measures nothing more."""
    model = InterpretableModel(make("llama"))

    def call(**options):
        if experiment == "causal_trace":
            return model.causal_trace([5, 6, 7, 8], range(1, 2), samples=2, progress=False, **options)
        asked = dict(component="resid_post", progress=False, metric="logit")
        return model.activation_patching([5, 6, 7], [5, 8, 7], **asked, **options)

    plan = call(plan_only=True)
    measured = set(model.resolver.measured)
    assert any("whole_stream_errors" in key for key in measured if isinstance(key, tuple))
    assert call().plan.once == plan.once == calibration.once(model.resolver)
    assert set(model.resolver.measured) == measured


def test_it_is_measured_anew_when_the_weights_are_others():
    model = InterpretableModel(make("llama"))
    assert calibration.compute_dtype(model.resolver) == mx.float32
    model.net.set_dtype(mx.float16)
    model.ids([1, 2])  # any prompt looks at the model anew
    assert calibration.compute_dtype(model.resolver) == mx.float16


def test_differences_leave_out_what_is_ruled_out():
    a, b = np.array([1.0, -np.inf, 3.0]), np.array([1.5, -np.inf, 3.0])
    assert calibration.largest_difference(a, b) == 0.5
    assert calibration.largest_difference(a, np.array([1.0, 2.0, 3.0])) == np.inf
    assert np.isnan(calibration.largest_difference(a, np.array([np.nan, -np.inf, 3.0])))
    assert calibration.largest_logit(np.array([-7.0, -np.inf, 2.0])) == 7
    assert calibration.largest_logit(np.array([0.1])) == 1


def test_logits_agree_to_rounding_or_it_is_said_how_far_they_are(model, monkeypatch):
    monkeypatch.setattr(calibration, "_moved_by_company", lambda resolver: 0.0)  # 2e-5 of the largest
    right = np.array([[10.0, -np.inf, 3.0]])
    for off in (0.0, 1e-4):
        assert calibration.beyond_rounding(model.resolver, right + off, right) == ""
    assert (
        calibration.beyond_rounding(model.resolver, right + 0.5, right)
        == "0.5, where rounding explains 0.0002"
    )
    assert calibration.beyond_rounding(model.resolver, right * np.nan, right)
    assert calibration.beyond_rounding(model.resolver, np.zeros((1, 3)), right)  # finite where none may be


@pytest.mark.parametrize(("moved", "allowed"), [(0.0, 2e-5), (1e-5, 1e-4), (1.0, 2e-3)])
def test_rounding_has_a_floor_and_a_cap(model, monkeypatch, moved, allowed):
    monkeypatch.setattr(calibration, "_moved_by_company", lambda resolver: moved)
    assert calibration.rounding(model.resolver) == pytest.approx(allowed)


@pytest.mark.parametrize("component", ["resid_pre", "k", "pattern", "head", "neuron"])
def test_bytes_of_a_site_are_those_of_its_array(model, component):
    site, ids = model.resolver.site(component, 1), tuple(range(11))
    _, kept = capture(model.resolver, Run(ids), [site])
    assert calibration.site_bytes(model.resolver, site, 11, 11) == kept[site.name].nbytes


def test_bytes_of_the_caches_are_theirs(model):
    caches = make_prompt_cache(model.net)
    for cache in caches:
        cache.step = 13
    mx.eval(model.net(mx.array([list(range(13))]), cache=caches))
    held = sum(x.nbytes for cache in caches for x in (cache.keys, cache.values))
    assert calibration.cache_bytes(model.resolver, 13) == held


def test_a_pass_is_estimated_at_no_less_with_more_in_it(model):
    def bytes_of(rows=4, ran=8, length=8, sites=(), read=1):
        return calibration.pass_bytes(model.resolver, rows, ran, length, sites, read)

    plain = bytes_of()
    assert bytes_of(rows=8) > plain and bytes_of(ran=16, length=16) > plain
    assert bytes_of(read=0) <= plain <= bytes_of(read=8)
    assert bytes_of(sites=[model.resolver.site("pattern", 0)]) > plain
    assert bytes_of(ran=4) < plain  # a prefix is shared


@tried_again
def test_a_pass_takes_no_more_than_was_estimated():
    """Of a model that computes longer than MLX takes to allocate: of less, more is reused on a busy machine."""
    model, ids = InterpretableModel(make("llama", hidden_size=256, intermediate_size=1024)), list(range(60))
    gc.collect()  # what other tests left and is let go in between would count as room
    estimate = calibration.pass_bytes(model.resolver, 6, 60, 60, read=60)
    with calibration.measured_peak() as peak:
        mx.eval(model.net(mx.array([ids] * 6)))
        assert peak() <= estimate


@tried_again
def test_a_recurrent_pass_takes_no_more_than_was_estimated():
    """Of a longer prompt it holds more for a token than of the shortest."""
    model = InterpretableModel(make("jamba"))
    estimate = calibration.pass_bytes(model.resolver, 20, 16, 16)
    tokens = mx.array([list(range(16))] * 20)
    with calibration.measured_peak() as peak:
        mx.eval(model.net(tokens))
        assert peak() <= estimate


@pytest.mark.parametrize(("name", "component"), [("deepseek_v3", None), ("gpt_oss", "k")])
@tried_again
def test_masks_of_each_head_and_sinks_take_memory(name, component):
    """Attention that cannot be computed in parts, or has one more score for each query, holds more at once."""
    model = InterpretableModel(more_models.make(name))
    length, sites = 200, [model.resolver.site(component, 1)] if component else []
    estimate = calibration.pass_bytes(model.resolver, 6, length, length, sites)
    run = Runs((Run(tuple(i % 150 for i in range(length))),) * 6)
    kept = sum(6 * calibration.site_bytes(model.resolver, site, length, length) for site in sites)
    with calibration.measured_peak() as peak:
        capture(model.resolver, run, sites, eager=True)
        assert peak() <= estimate + kept


def test_attention_with_masks_of_each_head_shares_no_prefix():
    """It is called as it is, and takes the memory of all keys."""
    for name, merges in (("deepseek_v3", False), ("gpt_oss", True)):
        resolver = InterpretableModel(more_models.make(name)).resolver
        engine = choice.choose(resolver)
        assert calibration.more_than_masks(resolver) == (not merges, name == "gpt_oss")
        assert engine.merges(500, 500) == merges


def test_a_site_that_is_never_reached_has_no_size(model):
    from dataclasses import replace

    with pytest.raises(errors.EngineError, match="never reached"):
        calibration.site_bytes(model.resolver, replace(model.resolver.site("attn", 0), visit=9), 1, 1)


def test_the_collector_rests_while_a_peak_is_measured(model, monkeypatch):
    seen, forward = [], calibration.forward
    monkeypatch.setattr(calibration, "forward", lambda *a: seen.append(gc.isenabled()) or forward(*a))
    calibration._peaks(model.resolver, 2)
    assert seen == [False] and gc.isenabled()
    with pytest.raises(ZeroDivisionError), calibration.measured_peak():
        raise ZeroDivisionError
    assert gc.isenabled()
