"""Memory is what was said: peaks under the allowance, plans that agree, refusals before any pass, the same numbers."""

import json
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest
from fake_ranks import on_ranks
from models import make
from peaks import tried_again

from mlxtrace import GaussianNoise, InterpretableModel, errors
from mlxtrace.engine import calibration, choice, memory, work
from mlxtrace.metrics import every_position

CLEAN = [(3 + 7 * i) % 160 for i in range(24)]
CORRUPTED = [CLEAN[0], *((i + 11) % 160 for i in CLEAN[1:])]
NOISE = GaussianNoise(range(2, 4), level=0.5, samples=4, seed=1)


@pytest.fixture(scope="module")
def model():
    made = InterpretableModel(make("llama", hidden_size=96, intermediate_size=256, num_hidden_layers=4))
    choice.choose(made.resolver), work.speed(made.resolver, 24), calibration.token_bytes(made.resolver)
    return made


def patch(model, allowed=None, corrupted=CORRUPTED, **options):
    options = {"metric": "logit", "progress": False, **options}
    return model.activation_patching(CLEAN, corrupted, max_memory=allowed, **options)


def peak_of(run):
    with calibration.measured_peak() as peak:
        result = run()
        return peak(), result


def least(run):
    """The least allowance, as the refusal says it."""
    with pytest.raises(errors.InputError, match="a single cell needs about") as refused:
        run(1)
    return int(str(refused.value).split("needs about ")[1].split(":")[0])


def same(model, found, expected):
    """Equal to what rounding does to this model's logits when a batch has another shape."""
    scale = max(1, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=calibration.rounding(model.resolver) * scale)


ASKED = {
    "stream": dict(component="resid_post", positions="each"),
    "window of mlp": dict(component="mlp", positions="each", window=3),
    "middle": dict(component="resid_mid", positions="each"),
    "neuron": dict(component="neuron"),
    "head": dict(component="head"),
    "key": dict(component="k", positions=[4, 9, 20]),
    "pattern": dict(component="pattern"),
    "pattern each": dict(component="pattern", positions="each", heads=[0, 2]),
    "several": dict(component=["attn", "mlp"], positions="each", metric=["prob", "kl", "logit"]),
    "noise": dict(component="attn", positions="each", corrupted=NOISE),
    "noising": dict(component="mlp", positions=[5, 6], corrupted=NOISE, direction="noise"),
    "flat": dict(component="resid_post", positions="each", layers=[1, 2], engine="flat"),
    "loop": dict(component="mlp", layers=[0, 3], engine="loop"),
}


# Cells like those of the mlp and of the keys, which are asked for as well.
LIKE_OTHERS = {"window of mlp", "head"}


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(asked, id=name, marks=[pytest.mark.heavy] if name in LIKE_OTHERS else [])
        for name, asked in ASKED.items()
    ],
)
@tried_again
def test_peak_stays_under_the_allowance_and_numbers_stay(model, asked):
    need, whole = peak_of(lambda: patch(model, **asked))
    bound = least(lambda allowed: patch(model, allowed, **asked))
    assert need <= whole.plan.bytes
    for allowed in (bound, max(bound, need // 2)):
        plan = patch(model, allowed, plan_only=True, **asked)
        peak, result = peak_of(lambda allowed=allowed: patch(model, allowed, **asked))
        assert peak <= plan.bytes <= allowed
        assert (result.plan.bytes, result.plan.passes) == (plan.bytes, plan.passes)
        same(model, result.raw, whole.raw)
    for run in (patch, lambda *a, **k: patch(*a, plan_only=True, **k)):
        with pytest.raises(errors.InputError, match="max_memory"):
            run(model, bound - 1, **asked)


@tried_again
def test_a_tenth_of_what_a_map_takes_is_enough(model):
    for component in ("resid_post", "mlp"):
        need, whole = peak_of(lambda c=component: patch(model, component=c, positions="each"))
        peak, tenth = peak_of(
            lambda c=component, n=need // 10: patch(model, n, component=c, positions="each")
        )
        assert peak <= need // 10 and tenth.plan.passes > whole.plan.passes


def test_sources_are_captured_in_parts(model, monkeypatch):
    from mlxtrace.engine import sweep

    captured = []

    def counting(honest):
        def counted(resolver, run, sites, *rest, **options):
            captured.append(len(sites))
            return honest(resolver, run, sites, *rest, **options)

        return counted

    for name in ("capture", "capture_sites"):
        monkeypatch.setattr(sweep, name, counting(getattr(sweep, name)))
    whole = patch(model, component="mlp", positions="each")
    assert captured == [4]
    captured.clear()
    bound = least(lambda allowed: patch(model, allowed, component="mlp", positions="each"))
    split = patch(model, bound, component="mlp", positions="each")
    assert sum(n > 0 for n in captured) > 1 and max(captured) < 4
    same(model, split.raw, whole.raw)


@pytest.mark.parametrize("options", [{}, {"kind": "mlp", "window": 2}, {"severed": "mlp"}])
@tried_again
def test_causal_traces(model, options):
    def trace(allowed=None, **more):
        return model.causal_trace(
            CLEAN, range(2, 4), samples=3, noise=0.5, max_memory=allowed, progress=False, **options, **more
        )

    bound = least(trace)
    whole = trace()
    for allowed in (bound, 3 * bound):
        peak, found = peak_of(lambda allowed=allowed: trace(allowed))
        assert peak <= allowed and found.plan.bytes <= allowed
        assert trace(allowed, plan_only=True).bytes == found.plan.bytes
        same(model, found.raw, whole.raw)


@tried_again
def test_causal_effects_are_refused_before_either_sweep(model, monkeypatch):
    def effects(allowed=None):
        return model.causal_effects(
            CORRUPTED, CLEAN, "mlp", max_memory=allowed, metric="logit", progress=False
        )

    bound = least(effects)
    whole = effects()
    peak, found = peak_of(lambda: effects(bound))
    assert peak <= bound
    same(model, found.direct, whole.direct)
    same(model, found.indirect, whole.indirect)


def test_what_is_refused_runs_nothing(model, monkeypatch):
    from mlxtrace.engine import sweep

    for name in ("capture", "capture_sites"):
        monkeypatch.setattr(sweep, name, lambda *a, **k: pytest.fail("a pass was run"))
    monkeypatch.setattr(sweep.Batch, "run", lambda self: pytest.fail("a pass was run"))
    for run in (
        lambda: patch(model, 1000, component="pattern"),
        lambda: model.causal_trace(CLEAN, range(2, 4), noise=0.5, max_memory=1000),
        lambda: model.causal_effects(CORRUPTED, CLEAN, "mlp", max_memory=1000),
    ):
        with pytest.raises(errors.InputError, match=r"allow at least that, use a shorter prompt"):
            run()


@pytest.mark.parametrize(
    "wrong", [0, -1, float("nan"), float("inf"), "2GB", b"3", True, None.__class__, [1], 1j]
)
def test_what_is_no_number_of_bytes(model, wrong):
    with pytest.raises(errors.InputError, match="max_memory is a number of bytes above 0"):
        patch(model, wrong)


def test_numbers_of_any_kind_are_bytes(model):
    allowed = patch(model, plan_only=True).bytes
    for number in (np.int64(allowed), float(allowed), np.float32(2 * allowed)):
        assert patch(model, number, plan_only=True).bytes == allowed


@tried_again
def test_metrics_see_few_rows_at_a_time_where_the_vocabulary_is_large():
    wide = InterpretableModel(make("gpt2", vocab_size=6000))
    seen = []

    @every_position
    def counted(logits):
        seen.append(len(logits))
        return logits[:, -1, 7].astype(np.float64)

    options = dict(positions="each", progress=False, component="resid_post")
    asked = [[i % 160 for i in ids] for ids in (CLEAN[:8], CORRUPTED[:8])]
    whole = wide.activation_patching(*asked, metric=["kl", "logit", counted], **options)
    most = max(seen)
    bound = least(
        lambda n: wide.activation_patching(*asked, metric=["kl", "logit", counted], max_memory=n, **options)
    )
    seen.clear()
    peak, split = peak_of(
        lambda: wide.activation_patching(
            *asked, metric=["kl", "logit", counted], max_memory=2 * bound, **options
        )
    )
    assert max(seen) < most and peak <= 2 * bound
    same(wide, split.raw, whole.raw)


# ---- what is free


def files(root, **contents):
    for name, text in contents.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with 8 GB free, whose limits a test writes."""
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(mx, "device_info", lambda: {"architecture": "x86_64"})
    files(tmp_path, proc__meminfo="MemTotal: 9000000 kB\nMemAvailable:    8000000 kB\n")
    return tmp_path


def test_free_memory_is_what_the_machine_has(machine):
    assert memory.free() == 8000000 << 10
    assert memory.default_memory() == memory.allowed_bytes(None) == (8000000 << 10) // 4


def test_a_control_group_bounds_it(machine):
    files(machine, proc__self__cgroup="0::/job/task\n")
    job, task = machine / "cgroup/job", machine / "cgroup/job/task"
    task.mkdir(parents=True)
    (task / "memory.max").write_text("max\n")
    (task / "memory.current").write_text("10\n")
    assert memory.free() == 8000000 << 10
    (job / "memory.max").write_text("1000000000\n")
    (job / "memory.current").write_text("400000000\n")
    (job / "memory.stat").write_text("anon 1\ninactive_file 100000000\n")
    assert memory.free() == 700000000  # the group above binds; dropped pages are free


def test_an_old_control_group_bounds_it(machine):
    files(machine, proc__self__cgroup="12:cpu:/x\n4:memory:/x\n")
    inside = machine / "cgroup/memory/x"
    inside.mkdir(parents=True)
    (inside / "memory.limit_in_bytes").write_text(f"{2**63 - 4096}\n")
    (inside / "memory.usage_in_bytes").write_text("5\n")
    assert memory.free() == 8000000 << 10
    (inside / "memory.limit_in_bytes").write_text("500000000\n")
    assert memory.free() == 499999995
    (inside / "memory.usage_in_bytes").write_text("600000000\n")
    assert memory.free() == 0 and memory.default_memory() == 1


def test_a_device_bounds_it(machine, monkeypatch):
    monkeypatch.setattr(mx, "device_info", lambda: {"max_recommended_working_set_size": 3 << 30})
    assert memory.free() == (3 << 30) - mx.get_active_memory()


def refusals(model):
    """Every experiment that refuses for want of memory, with no limit named."""
    yield lambda: patch(model)
    yield lambda: model.attribution_patching(CLEAN, CORRUPTED, progress=False)
    yield lambda: model.path_patching(CLEAN, CORRUPTED, "m0", "m1", progress=False)
    yield lambda: model.logit_lens(CLEAN)
    yield lambda: patch(model, corrupted=NOISE)


def test_a_limit_that_nobody_named_is_not_called_max_memory(model, machine, monkeypatch):
    """A refusal says which limit of the machine it was, and that another can be named."""
    files(machine, proc__meminfo="MemAvailable: 8 kB\n")
    for run in refusals(model):
        with pytest.raises(
            errors.InputError, match=r"^max_memory is not set \(it may name more\)"
        ) as refused:
            run()
        assert "a quarter of what this machine's memory (MemAvailable) leaves is 2048 bytes" in str(
            refused.value
        )
    taken = mx.get_active_memory() + 4000
    monkeypatch.setattr(mx, "device_info", lambda: {"max_recommended_working_set_size": taken})
    with pytest.raises(errors.InputError, match="what Metal's recommended working set leaves is 1000 bytes"):
        patch(model)
    with pytest.raises(errors.InputError, match=r"^max_memory is 1000 bytes, but a single cell needs about"):
        patch(model, 1000)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of the address space are Linux's")
def test_a_limit_of_the_address_space_bounds_it():
    code = (
        "import resource, json, mlxtrace, mlx.core as mx\n"
        "from mlxtrace.engine import memory\n"
        "mx.eval(mx.ones(3) + 1)\n"
        "used = memory._field(memory.PROC / 'self' / 'status', 'VmSize')\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000, -1))\n"
        "print(json.dumps(memory.free()))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert out.returncode == 0, out.stderr
    assert 250_000_000 < json.loads(out.stdout) <= 301_000_000


def test_of_ranks_that_differ_by_rounding_the_first_counts():
    def ask(group):
        mine = np.array([[0.1, 0.2], [np.nan, -np.inf]]) * (1 + 1e-9 * group.rank())
        return memory.of_first(mine, group)

    for found in on_ranks(3, ask):
        np.testing.assert_array_equal(found, [[0.1, 0.2], [np.nan, -np.inf]])
    assert memory.of_first(np.zeros(0), None).size == 0


def test_ranks_plan_by_the_same_numbers(monkeypatch):
    """The least memory of all, and the longest time: with plans of their own they would wait for each other."""
    here = threading.local()
    monkeypatch.setattr(memory, "default_memory", lambda: 5_000_000_001 + 7_000_000 * here.rank)
    measured = calibration.per_model(lambda resolver: (0.25 * (1 + here.rank), 7))

    def ask(group):
        here.rank = group.rank()
        resolver = SimpleNamespace(group=group, measured={})
        return memory.allowed_bytes(None, group), measured(resolver), memory.agreed("words", group)

    assert on_ranks(3, ask) == [(5_000_000_001, (0.75, 7.0), "words")] * 3
