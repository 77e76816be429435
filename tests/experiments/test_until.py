"""Samples until cells are known: cell by cell those of a fixed number, no more rows than it takes; what is refused."""

import functools
from types import SimpleNamespace

import models
import numpy as np
import pytest
from noise import close

from mlxtrace import CausalTrace, GaussianNoise, InterpretableModel
from mlxtrace.engine.corruption import noise_array
from mlxtrace.errors import InputError
from mlxtrace.experiments import until
from mlxtrace.experiments.noise import UntilRun
from mlxtrace.experiments.sweeps import Job, Outcome, Run
from mlxtrace.results.patching_result import PatchingResult

PROMPT, SUBJECT = "The Eiffel Tower is in the city of", "Eiffel Tower"
IDS, WHERE = [7, 31, 32, 90, 15], range(1, 3)
QUIET = {"progress": False}
SEVERED = {"severed": "mlp", "severed_noise": "same"}


@pytest.fixture(scope="module")
def demo():
    return InterpretableModel("demo")


@pytest.fixture(scope="module")
def small():
    return InterpretableModel(models.make("llama", seed=4, num_hidden_layers=3))


def same_as_fixed(recovery, samples, fixed, atol=1e-3):
    """Each cell's recovery is that of a run of its number of samples. fixed: makes such a run's recoveries."""
    counts = np.unique(samples)
    for k in counts:
        at = samples == k
        np.testing.assert_allclose(
            recovery[at], fixed(int(k))[at], rtol=2e-5, atol=atol, err_msg=f"{k} samples"
        )
    return counts


@pytest.mark.parametrize(
    "options",
    [{}, {"kind": "mlp", "window": 2}, {"noise": "u2", "seed": 5, "replace": True}, SEVERED],
    ids=str,
)
def test_a_traced_cell_is_that_of_a_run_of_its_samples(small, options):
    options = {"noise": 0.4, **options, **QUIET}
    trace = small.causal_trace(IDS, WHERE, samples="until", **options)
    run = functools.cache(lambda k: small.causal_trace(IDS, WHERE, samples=k, **options))
    counts = same_as_fixed(trace.recovery, trace.samples, lambda k: run(k).recovery)
    assert len(counts) > 2
    for k in counts.tolist():
        at = trace.samples == k
        close(trace.raw[at][:, :k], run(k).raw[at], small, "probability")
        assert np.isnan(trace.raw[at][:, k:]).all()
    np.testing.assert_allclose(trace.indirect_effect, trace.scores - trace.low_score, atol=1e-12)
    assert trace.low_score == pytest.approx(trace.corrupted_raw.mean(), abs=1e-12)
    assert trace.low_score == pytest.approx(run(len(trace.corrupted_raw)).low_score, abs=2e-6)


@pytest.mark.parametrize("engine", ["flat", "loop"])
def test_engines_draw_the_same(small, engine):
    options = {"samples": "until", "noise": 0.4, "positions": "subject", "within": 20, **QUIET}
    found, other = (small.causal_trace(IDS, WHERE, engine=name, **options) for name in (engine, "auto"))
    same = found.samples == other.samples  # at the margin rounding may close a cell a round earlier
    assert same.mean() > 0.8 and found.plan.engine == engine
    np.testing.assert_allclose(found.raw[same], other.raw[same], atol=5e-6)


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_patched_cells_in_both_directions(small, direction):
    options = {"component": ["resid_post", "mlp"], "positions": "each", "metric": ["prob", "logit"], **QUIET}
    options |= {"direction": direction, "target": 3}
    noise = {"subject": WHERE, "level": 0.4}
    result = small.activation_patching(IDS, GaussianNoise(**noise, samples="until", within=25), **options)
    assert result.samples.shape == result.recovery.shape == result.interval.shape

    def fixed(k):
        return small.activation_patching(IDS, GaussianNoise(**noise, samples=k), **options).recovery

    same_as_fixed(result.recovery, result.samples, fixed, atol=5e-3)
    assert (result.interval[result.interval > 0] >= 25).all()
    most = result.top(1)[0]["prob_recovery"]
    assert most == (result.recovery[:, 0].max() if direction == "denoise" else result.recovery[:, 0].min())


def test_regions_are_averages_of_cells(demo):
    noise, options = GaussianNoise(SUBJECT, samples="until"), {"component": "mlp", "layers": [0], **QUIET}
    regions = demo.activation_patching(PROMPT, noise, positions="regions", **options)
    each = demo.activation_patching(PROMPT, noise, positions="each", **options)
    assert regions.samples.shape == regions.interval.shape == regions.recovery.shape
    alone = [name for name in regions.coords["region"] if name == "last subject token"]
    for name in alone:
        at = regions.coords["region"].index(name)
        np.testing.assert_allclose(regions.recovery[0, at], each.recovery[0, 4], atol=1e-3)


def test_a_set_has_what_its_pairs_have(demo):
    prompts = [PROMPT, "The Louvre Museum is in the city of"]
    noises = [GaussianNoise(name, samples="until") for name in (SUBJECT, "Louvre Museum")]
    options = {"component": "mlp", "layers": [0, 1], **QUIET}
    result = demo.activation_patching(prompts, noises, **options)
    for single, prompt, noise in zip(result.singles, prompts, noises, strict=True):
        alone = demo.activation_patching(prompt, noise, **options)
        np.testing.assert_allclose(single.raw, alone.raw, atol=1e-5)
        assert (single.samples == alone.samples).all()
    assert all(
        (one == single.samples).all() for one, single in zip(result.samples, result.singles, strict=True)
    )
    with pytest.raises(InputError, match="all pairs"):
        demo.activation_patching(prompts, [noises[0], GaussianNoise("Louvre Museum")], **options)


def test_a_fixed_number_is_as_it_was(small):
    trace = small.causal_trace(IDS, WHERE, samples=3, **QUIET)
    assert trace.samples == 3 and trace.corrupted_raw is None and np.isnan(trace.interval).all()
    assert (trace.scores == trace.raw.mean(-1)).all() and "samples" not in trace.to_rows()[0]
    result = small.activation_patching(IDS, GaussianNoise(WHERE, samples=3), layers=[0], **QUIET)
    assert result.samples == 3 and "sampling" not in result.settings and "samples" not in result.to_rows()[0]
    assert GaussianNoise("a").to_dict() == {  # the settings of folders that were begun before there was "until"
        "subject": "a", "level": "s3", "samples": 10, "seed": 1, "replace": False
    }  # fmt: skip


def test_fewer_rows_for_the_same_strongest_cells(demo):
    trace = demo.causal_trace(PROMPT, SUBJECT, samples="until", **QUIET)
    ten = demo.causal_trace(PROMPT, SUBJECT, samples=10, **QUIET)
    assert trace.plan.cells == ten.plan.cells and trace.plan.null_cells == ten.plan.null_cells
    assert 2.5 * trace.plan.rows < ten.plan.rows and trace.plan.elapsed > 0
    strong = {(row["position"], row["layer"]) for row in trace.top(5)}
    at = np.array([ten.recovery[ten.positions.index(p), layer] for p, layer in strong])
    assert (at > np.sort(ten.recovery.reshape(-1))[-5] - 1).all()
    plan = demo.causal_trace(PROMPT, SUBJECT, samples="until", plan_only=True)
    assert plan.least <= trace.plan.rows <= plan.rows and plan.rows > 9 * ten.plan.rows
    assert f"{plan.rows} rows at most, {plan.least} at least" in str(plan)


def test_narrower_takes_more(small):
    options = {"samples": "until", "noise": 0.4, "positions": "subject", **QUIET}
    wide, narrow = (small.causal_trace(IDS, WHERE, within=points, **options) for points in (40, 10))
    assert wide.plan.rows < narrow.plan.rows and wide.samples.max() < narrow.samples.max()
    assert (wide.samples <= narrow.samples).all()


def test_no_noise_stops_at_once(small):
    trace = small.causal_trace(IDS, WHERE, samples="until", noise=0.0, **QUIET)
    np.testing.assert_allclose(trace.scores, trace.high_score, atol=1e-6)
    assert trace.samples.max() == len(trace.corrupted_raw) == until.ROUNDS[0]


def test_what_is_never_known_is_said(small):
    options = {"noise": 0.4, "within": 0.001, "positions": "subject_last", "kind": "mlp", "window": 1}
    trace = small.causal_trace(IDS, WHERE, samples="until", **options, **QUIET)
    assert trace.samples.max() == len(trace.corrupted_raw) == 100
    assert "not settled" in trace.notes[-1] and "not settled" in repr(trace)


def test_results_say_and_keep_their_samples(small, tmp_path):
    options = {"noise": 0.4, "samples": "until", "within": 20, **QUIET}
    trace = small.causal_trace(IDS, WHERE, **options)
    again = CausalTrace.load(trace.save(tmp_path / "trace.npz"))
    for name in ("samples", "interval", "scores"):
        assert (getattr(again, name) == getattr(trace, name)).all()
    assert repr(again) == repr(trace) and f"2 to {trace.samples.max()} samples a cell" in repr(trace)
    assert trace.to_rows()[0].keys() >= {"samples", "interval"}
    assert (trace.interval[trace.interval > 0] >= 20).all() and (trace.interval == 20).any()
    trace.raw[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="no sample"):
        trace.check()
    noise = GaussianNoise(WHERE, 0.4, "until", within=25)
    result = small.activation_patching(IDS, noise, positions="each", **QUIET)
    kept = PatchingResult.load(result.save(tmp_path / "result.npz"))
    assert (kept.samples == result.samples).all() and (kept.interval == result.interval).all()
    assert repr(kept) == repr(result) and "within ±25 points" in repr(result)
    row = result.to_rows()[0]
    assert row["low"] <= row["prob_recovery"] <= row["high"] and row["samples"] >= 2


def test_rows_and_differences_are_of_numbers_that_mean_something(small):
    noises = [GaussianNoise(WHERE, level, "until", within=25) for level in (0.4, 0.0)]
    options = {"metric": "prob", "layers": [0], "positions": "each", **QUIET}
    result = small.activation_patching([IDS, IDS], noises, **options)
    moved, still = (single.to_rows()[1] for single in result.singles)  # the second has no gap
    assert moved["low"] < moved["high"] and isinstance(moved["samples"], int)
    assert still["prob_recovery"] is still["low"] is still["high"] is None
    fixed = small.activation_patching(IDS, GaussianNoise(WHERE, 0.4, 3), **options)
    alone = small.activation_patching(IDS, noises[0], **options)
    assert "half" not in repr(alone - fixed) and "samples until" in repr(alone - fixed)


def test_whole_answers(small):
    options = {"target": [3, 5], "positions": "subject", "noise": 0.4, **QUIET}
    run = functools.partial(small.causal_trace, IDS, WHERE, **options)
    trace = run(samples="until", within=20)
    same_as_fixed(trace.recovery, trace.samples, lambda k: run(samples=k).recovery, atol=2e-2)
    noise = GaussianNoise(WHERE, 0.4, "until", within=25)
    result = small.activation_patching(IDS, noise, target=[3, 5], metric="prob", **QUIET)
    assert result.target.corrupted_prob == pytest.approx(result.corrupted, rel=1e-6)


def test_the_race():
    strength = np.array([100.0, 90, 80, 70, 60, 50, 10])
    assert until.may_be_strongest(strength, np.full(7, 4.0)).tolist() == [True] * 5 + [False] * 2
    assert until.may_be_strongest(strength, np.full(7, 5.0)).tolist() == [True] * 6 + [False]
    assert until.may_be_strongest(strength[:3], np.zeros(3)).all()


STRENGTHS = [1.0, 0.95, 0.9, 0.85, 0.8, 0.1, 0.05]


def race_of(strengths, spread, samples=4, denoise=True, wide=0.0):
    """A race after a round in which cells restore or break so much, by each metric, give or take; wide: the gap."""
    run, plain, cells = UntilRun((1, 2), np.zeros((100, 1, 4)), (0,), within=10.0), Run((1, 2)), [None] * 7
    race = until.Race(Job(run, plain, cells) if denoise else Job(plain, run, cells))
    race.measured = SimpleNamespace(metrics=[SimpleNamespace(name="prob") for _ in strengths])
    sign = np.resize([1, -1], samples)
    low, high = np.tile(0.1 + wide * sign, (len(strengths), 1)), np.full((len(strengths), 1), 0.9)
    moved = 0.8 * np.array(strengths)[..., None] + spread * sign
    values = low[:, None] + moved if denoise else high[:, None] - moved
    race.take(Outcome(values, low, high, None) if denoise else Outcome(values, high, low, None))
    return race


@pytest.mark.parametrize("denoise", [True, False])
def test_what_may_be_strongest_and_is_not_known_stays_open(denoise):
    def open_cells(*asked):
        return race_of(*asked, denoise=denoise).open.tolist()

    assert open_cells([STRENGTHS], 0.1) == [True] * 5 + [False] * 2
    assert open_cells([STRENGTHS], 0.01) == [False] * 7  # known
    assert open_cells([STRENGTHS], 0.001, 2) == [True] * 5 + [False] * 2  # so are these, but of two samples
    assert open_cells([STRENGTHS, STRENGTHS[::-1]], 0.1) == [True] * 7  # by either metric


def test_the_corrupted_run_goes_on_until_its_own_mean_is_known(small):
    for wide in (0.1, 0.001):
        race = race_of([[0] * 7], 0, wide=wide)  # nothing is restored, with any noise
        assert not race.open.any() and race.goes_on == (wide == 0.1)
    trace = small.causal_trace(IDS, WHERE, samples="until", noise=0.4, positions=[0], **QUIET)
    first, n = until.ROUNDS[0], len(trace.corrupted_raw)
    assert trace.samples.max() == first < n
    assert trace.plan.rows == n - first  # no cell has a row: these are its own


def test_memory_and_numbers(small, monkeypatch):
    options = {"samples": "until", "noise": 0.4, "within": 25, **QUIET}
    plan = small.causal_trace(IDS, WHERE, plan_only=True, **options)
    free, tight = (small.causal_trace(IDS, WHERE, max_memory=m, **options) for m in (None, plan.bytes // 2))
    same = free.samples == tight.samples
    assert same.mean() > 0.8 and tight.plan.bytes <= plan.bytes // 2
    np.testing.assert_allclose(free.raw[same], tight.raw[same], atol=5e-6)
    with pytest.raises(InputError, match="max_memory"):
        small.causal_trace(IDS, WHERE, max_memory=10_000, **options)
    two, many = (GaussianNoise(WHERE, 0.4, samples) for samples in (2, "until"))
    least = small.activation_patching(IDS, two, positions="last", plan_only=True, **QUIET).bytes
    monkeypatch.setattr(
        until, "sweep_pairs", None
    )  # that later rounds do not fit is said before the first is run
    with pytest.raises(InputError, match="max_memory"):
        small.activation_patching(IDS, many, positions="last", max_memory=least, **QUIET)


REFUSED = [
    ({"samples": "Until"}, "until"),
    ({"samples": "auto"}, "until"),
    ({"samples": "until", "within": 0}, "within"),
    ({"samples": "until", "within": -1}, "within"),
    ({"samples": "until", "within": "5"}, "within"),
    ({"samples": "until", "within": float("nan")}, "within"),
    ({"samples": 10, "within": 5}, "within"),
    ({"within": 5}, "within"),
    ({"samples": "until", "severed": "mlp"}, "severed_noise"),
]


@pytest.mark.parametrize("options, said", REFUSED, ids=[str(options) for options, _ in REFUSED])
def test_what_is_refused(small, options, said):
    with pytest.raises(InputError, match=said):
        small.causal_trace(IDS, WHERE, **options)


RANKED = ["attribution_patching", "screen", "path_patching", "edges", "causal_effects"]


@pytest.mark.parametrize("name", RANKED)
def test_other_experiments_say_that_they_take_a_number(demo, name):
    noise = GaussianNoise(SUBJECT, samples="until")
    given = (noise, PROMPT) if name == "causal_effects" else (PROMPT, noise)
    with pytest.raises(InputError, match="give a number"):
        getattr(demo, name)(*given)


def test_a_window_of_noise_takes_a_number(small):
    with pytest.raises(InputError, match="samples"):
        small.noising_window(IDS, samples="until")


@pytest.mark.parametrize("level", [0.3, "u3"])
def test_the_first_samples_of_many_are_those_of_few(level):
    many = noise_array(GaussianNoise("a", level, "until", 7), 3, 5)
    assert len(many) == 100 == until.ROUNDS[-1]
    for k in (1, 2, 7, 100):
        assert (noise_array(GaussianNoise("a", level, k, 7), 3, 5) == many[:k]).all()
    run = UntilRun((1, 2), many, (0,), False, 10.0)
    assert (run.part(2, 5).noise == many[2:5]).all() and run.part(2, 5).rows == 3
    assert Job(run, Run((1, 2)), []).until and not Job(Run((1, 2)), Run((1, 2)), []).until
