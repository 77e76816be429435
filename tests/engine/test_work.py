"""The work that is planned is the work that is done, and its time follows from what quick passes took."""

import time
import types

import mlx.core as mx
import mlx.nn as nn
import pytest
from models import make

from mlxtrace import InterpretableModel
from mlxtrace.engine import calibration, choice, work
from mlxtrace.engine.fit import fit
from mlxtrace.engine.plan import Request
from mlxtrace.engine.runs import Cell, Patch, Run
from mlxtrace.engine.sweep import Sweep
from mlxtrace.engine.work import Work, seconds, work_of

IDS = tuple((3 + 7 * i) % 160 for i in range(16))
OTHER = (*IDS[:2], *((i + 1) % 160 for i in IDS[2:]))


@pytest.fixture(scope="module")
def resolver():
    return InterpretableModel(make("llama")).resolver


def request(resolver, allowed=1 << 40, component="mlp"):
    cells = []
    for layer in range(resolver.n_layers):
        site = resolver.site(component, layer)
        cells += [Cell((Patch(site, (p,), (p,)),)) for p in range(len(IDS))]
    base = Run(IDS)
    return Request(resolver, base, Run(OTHER), base, cells, choice.choose(resolver), False, allowed)


# ---- what one of each takes


def test_times_are_no_less_than_nothing(resolver):
    each = work.speed(resolver, 9)
    assert each.passes > 0 and min(each) >= 0
    assert work.speed(resolver, 60) is each  # measured once for all short prompts
    assert work.speed(resolver, 64) is work.speed(resolver, 4096) is not each


def test_what_is_recurrent_takes_time_for_each_token_of_a_pass_and_for_each_of_a_row(monkeypatch):
    """Passes that take what a cost model says, the tokens of their longest row included: its coefficients come back."""
    resolver, n = InterpretableModel(make("jamba")).resolver, len(IDS) // 2
    once, step, token, pair = 3.0, 7.0, 0.5, 0.01
    monkeypatch.setattr(
        work,
        "_took",
        lambda _, ids, rows, skipped: (once + len(ids) * (step + rows * (token + pair * len(ids))), 0.0),
    )
    monkeypatch.setattr(resolver, "measured", {})
    for length in (16, 64, 384, 385, 4096):
        found = work.speed(resolver, length)
        assert len(calibration.short_ids(resolver)) == n
        expected = once + step * length, work.WIDE * token, pair
        assert found[:3] == pytest.approx(expected)
    timed = {key[2][0] for key in resolver.measured if "_speed" in key}
    assert timed == set(work.TIMED_ON)


def test_speed_is_what_made_the_difference_between_timed_passes(resolver, monkeypatch):
    """Passes that take what a cost model says, no more and no less: its coefficients come back."""
    true = Work(3.0, 0.5, 0.01, 0.25, 2.0, 0.125)
    layers = resolver.structure.layers
    acts, reads = (
        sum(len(paths) for paths in every) for every in ([x.acts for x in layers], [x.reads for x in layers])
    )

    def took(resolver, ids, rows, skipped):
        tokens = rows * len(ids)
        body = true.passes + true.tokens * tokens + true.pairs * tokens * len(ids)
        body += true.reads * tokens * (len(skipped) < acts + reads) + true.acts * tokens * (not skipped)
        return body, true.logits * rows

    monkeypatch.setattr(work, "_took", took)
    monkeypatch.setattr(resolver, "measured", {})
    for length in (16, 1000):
        found = work.speed(resolver, length)
        wide = true._replace(tokens=work.WIDE * true.tokens)
        assert found == pytest.approx(wide)


# ---- how many there are


def counted(resolver, monkeypatch, asked):
    """By what is counted, what a run's passes do: modules are given tokens, and attention pairs of them."""
    sweep = Sweep(resolver, asked.base, asked.source, asked.cells, asked.engine, asked.max_memory)
    sweep.begin()
    seen, layers = (
        dict.fromkeys(("passes", "tokens", "pairs", "reads", "acts", "logits"), 0),
        resolver.structure.layers,
    )
    names = {id(resolver.paths[layer.reads[0]]): "reads" for layer in layers}
    names |= {id(resolver.paths[layer.acts[-1]].down_proj): "acts" for layer in layers}
    names |= {id(resolver.paths[resolver.structure.head]): "logits"}
    linear, attention = nn.Linear.__call__, mx.fast.scaled_dot_product_attention

    def given(self, x):
        if id(self) in names:
            seen[names[id(self)]] += x.size // x.shape[-1]
        return linear(self, x)

    def attend(q, k, v, **options):
        seen["tokens"] += q.shape[0] * q.shape[2]
        seen["pairs"] += q.shape[0] * q.shape[2] * k.shape[2]
        return attention(q, k, v, **options)

    with monkeypatch.context() as patched:
        patched.setattr(nn.Linear, "__call__", given)
        patched.setattr(mx.fast, "scaled_dot_product_attention", attend)
        passes = sweep.run(lambda logits: logits[:, :1].T, progress=False).plan.passes
    by_layer = {name: seen[name] / len(layers) for name in ("tokens", "pairs", "reads", "acts")}
    return Work(passes=passes, logits=seen["logits"], **by_layer)


@pytest.mark.parametrize("component", ["resid_post", "mlp", "resid_pre", "attn", "head", "neuron"])
@pytest.mark.parametrize("part", [1, 2])
def test_the_work_that_is_planned_is_the_work_that_is_done(resolver, monkeypatch, component, part):
    (whole,) = fit(request(resolver, component=component))
    asked = request(resolver, whole.bytes // part, component=component)
    parts = fit(asked)
    works = [work_of(asked, group, part.prefix) for part in parts for group in part.groups]
    planned = Work(*map(sum, zip(*works, strict=True)))
    done = counted(resolver, monkeypatch, asked)
    assert planned.acts == pytest.approx(done.acts, rel=0.07)  # cells patched last are counted as if run
    assert list(planned._replace(acts=0)) == pytest.approx(list(done._replace(acts=0)))


def test_seconds_are_those_of_the_passes_and_of_the_plain_runs_before_them(resolver, monkeypatch):
    asked = request(resolver)
    parts, n = fit(asked), len(IDS)
    of_passes = [work_of(asked, group, part.prefix) for part in parts for group in part.groups]
    for i, name in enumerate(Work._fields):
        monkeypatch.setattr(work, "speed", lambda *a, name=name: Work()._replace(**{name: 1.0}))
        plain = Work(1, 2 * n, 2 * n * n, 2 * n, 2 * n, 2)[i]  # both runs as one batch
        assert seconds(asked, parts) == pytest.approx(plain + sum(one[i] for one in of_passes))


@pytest.mark.parametrize(
    ("start", "length", "keys"), [(0, 40, 40), (20, 40, 40), (0, 1000, 565.5), (900, 1000, 1000)]
)
def test_keys_that_are_seen_are_those_of_the_parts_that_are_computed(
    resolver, monkeypatch, start, length, keys
):
    """Of 1,000 keys 131 queries are a part: on average 500 and half a part. Elsewhere every query sees all."""
    monkeypatch.setattr(calibration, "on_processor", lambda: True)
    assert calibration.seen(resolver, start, length) == pytest.approx(keys)
    monkeypatch.setattr(calibration, "on_processor", lambda: False)
    assert calibration.seen(resolver, start, length) == length


@pytest.mark.heavy
@pytest.mark.parametrize(("length", "options"), [(16, {"positions": "each"}), (256, {}), (1000, {})])
def test_sweeps_take_about_as_long_as_planned(monkeypatch, length, options):
    """In processor time, and with room for a machine that is busy or throttled."""
    monkeypatch.setattr(work, "time", types.SimpleNamespace(perf_counter=time.process_time))
    model = InterpretableModel("demo")
    clean = [5 + (37 * i) % 1900 for i in range(length)]
    prompts = clean, [*clean[: length // 2], 7, *clean[length // 2 + 1 :]]
    options = {"component": "resid_post", "metric": "kl", "progress": False, **options}
    plan = model.activation_patching(*prompts, **options, plan_only=True)
    took = []
    for _ in range(2):  # the first run of a model looks at more
        began = time.process_time()
        model.activation_patching(*prompts, **options)
        took.append(time.process_time() - began)
    assert plan.seconds / 4 < min(took) < plan.seconds * 4
