"""The sweep's engine: against an independent loop, under memory limits, at odd requests, and when stopped."""

import contextlib
import gc
import weakref

import mlx.core as mx
import numpy as np
import pytest
from models import make
from noise import close
from peaks import tried_again

from mlxtrace import GaussianNoise, InterpretableModel, errors
from mlxtrace.engine import calibration, choice, work
from mlxtrace.engine.calibration import measured_peak
from mlxtrace.engine.runs import Cell, Patch, Run
from mlxtrace.engine.sweep import Sweep
from mlxtrace.metrics import every_position

CLEAN = [3, 17, 40, 41, 52, 60, 77, 8, 9]
CORRUPTED = [3, 17, 90, 91, 52, 60, 77, 8, 9]


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(make("llama"))


def by_hand(net, tokens, edit):
    """A Llama run layer by layer with plain mlx: `edit(layer, where, x)` at stream, attention and MLP."""
    inner = net.model
    h = edit(-1, "embed", inner.embed_tokens(mx.array([tokens])))
    for i, layer in enumerate(inner.layers):
        h = edit(i, "resid_pre", h)
        h = h + edit(i, "attn", layer.self_attn(layer.input_layernorm(h), "causal", None))
        h = h + edit(i, "mlp", layer.mlp(layer.post_attention_layernorm(h)))
        h = edit(i, "resid_post", h)
    return np.array(net.lm_head(inner.norm(h))[0, -1])


def record(net, tokens):
    kept = {}

    def edit(layer, where, x):
        kept[layer, where] = mx.array(x)
        return x

    return by_hand(net, tokens, edit), kept


def probability(logits, token):
    p = np.exp(logits.astype(np.float64) - logits.max())
    return p[token] / p.sum()


@pytest.mark.parametrize("component", ["resid_pre", "attn", "mlp", "resid_post"])
@pytest.mark.parametrize("window", [1, 2, 3])
def test_a_map_equals_a_loop_written_by_hand(model, component, window):
    clean, kept = record(model.net, CLEAN)
    target = int(clean.argmax())
    result = model.activation_patching(
        CLEAN, CORRUPTED, component, positions="each", window=window, metric="prob", progress=False
    )
    n = model.n_layers
    for layer in range(n):
        inside = range(max(0, layer - window // 2), min(n, layer + (window + 1) // 2))
        for position in range(len(CLEAN)):

            def edit(i, where, x, inside=inside, position=position):
                if where == component and i in inside:
                    x = mx.array(x)
                    x[:, position] = kept[i, where][:, position]
                return x

            expected = probability(by_hand(model.net, CORRUPTED, edit), target)
            assert result.raw[layer, position] == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("samples", [1, 3])
def test_noise_equals_a_loop_written_by_hand(model, samples):
    noise = GaussianNoise(range(2, 4), level=0.4, samples=samples, seed=5)
    drawn = mx.array(np.random.RandomState(5).randn(samples, 2, model.d_model) * 0.4).astype(mx.float32)
    clean, kept = record(model.net, CLEAN)
    result = model.activation_patching(
        CLEAN, noise, "resid_post", positions="each", metric="prob", progress=False
    )
    for layer, position in [(0, 2), (1, 3), (1, 8), (2, 8)]:
        scores = []
        for sample in range(samples):

            def edit(i, where, x, sample=sample, layer=layer, position=position):
                x = mx.array(x)
                if where == "embed":
                    x[:, 2:4] = x[:, 2:4] + drawn[sample]
                if where == "resid_post" and i == layer:
                    x[:, position] = kept[i, where][:, position]
                return x

            scores.append(probability(by_hand(model.net, CLEAN, edit), int(clean.argmax())))
        assert result.raw[layer, position] == pytest.approx(np.mean(scores), abs=2e-6)


def test_noise_of_level_zero_is_the_clean_run(model):
    with pytest.raises(errors.EffectError):
        model.activation_patching(CLEAN, GaussianNoise(range(2, 4), level=0.0, samples=2), progress=False)


def sweep_of(model, cells, engine="auto", **options):
    return Sweep(
        model.resolver,
        Run(tuple(CORRUPTED)),
        Run(tuple(CLEAN)),
        cells,
        choice.choose(model.resolver, engine),
        **options,
    )


def cell(model, component, layer, *at):
    return Cell((Patch(model.resolver.site(component, layer), at, at),))


def all_cells(model):
    return [cell(model, "resid_post", i, p) for i in range(model.n_layers) for p in range(len(CLEAN))]


def logits_of(rows):
    return rows.T.astype(np.float64)


@pytest.mark.parametrize("engine", ["fanout", "flat", "loop"])
def test_odd_requests(model, engine):
    for cells in (
        [],
        [cell(model, "mlp", 0, 0)],
        [cell(model, "resid_post", 2, 8)],
        [cell(model, "attn", 1, 0, 8)],
    ):
        outcome = sweep_of(model, cells, engine).run(logits_of, progress=False)
        assert outcome.values.shape == (160, len(cells), 1)
        assert outcome.plan.cells == len(cells)
    null = sweep_of(model, [cell(model, "mlp", 0, 0)], engine).run(logits_of, progress=False)
    np.testing.assert_allclose(null.values[:, 0], null.base, atol=5e-5)


def test_the_plan_accounts_for_every_cell(model):
    outcome = sweep_of(model, all_cells(model), "fanout").run(logits_of, progress=False)
    plan = outcome.plan
    assert plan.cells == 27
    assert plan.null_cells == 3 * 2 + 6  # before the first difference, and at the end all but the last
    assert plan.rows == (27 - 12) + plan.passes
    assert plan.engine == "fanout" and plan.prefix and min(plan.starts) == 2
    assert plan.bytes > 0 and plan.seconds > 0 and plan.elapsed > 0
    assert "fanout" in str(plan)


def test_planning_runs_nothing_of_the_sweep(model, monkeypatch):
    choice.choose(model.resolver), work.speed(model.resolver, 9)
    monkeypatch.setattr(Sweep, "_passes", lambda *a: pytest.fail("the sweep ran"))
    monkeypatch.setattr(Sweep, "begin", lambda *a: pytest.fail("the runs ran"))
    plan = model.activation_patching(CLEAN, CORRUPTED, positions="each", plan_only=True)
    assert plan.cells == 27 and plan.elapsed is None


def test_split_sweeps_give_the_same_numbers(model):
    whole = sweep_of(model, all_cells(model)).run(logits_of, progress=False)
    for limit in (whole.plan.bytes // 2, whole.plan.bytes // 4):
        split = sweep_of(model, all_cells(model), max_memory=limit).run(logits_of, progress=False)
        assert split.plan.passes > whole.plan.passes and split.plan.bytes <= limit
        close(split.values, whole.values, model)


def test_memory_that_holds_no_cell_is_refused(model):
    with pytest.raises(errors.InputError, match="a single cell needs about"):
        sweep_of(model, all_cells(model), max_memory=100).run(logits_of, progress=False)
    for wrong in (0, -5, True, "2GB", float("inf"), float("nan"), [1]):
        with pytest.raises(errors.InputError, match="max_memory"):
            sweep_of(model, all_cells(model), max_memory=wrong)


@tried_again
def test_peak_memory_stays_within_what_was_allowed():
    model = InterpretableModel(make("llama", hidden_size=256, intermediate_size=1024, num_hidden_layers=6))
    cells = [cell(model, "resid_post", i, p) for i in range(6) for p in range(len(CLEAN))] * 4
    whole = sweep_of(model, cells).plan()
    for limit in (whole.bytes // 3, whole.bytes // 8):
        sweep = sweep_of(model, cells, max_memory=limit)
        gc.collect()  # what other tests left and is let go of meanwhile would count as room
        with measured_peak() as peak:
            sweep.run(lambda rows: rows.sum(-1)[None], progress=False)
            assert peak() <= limit


def test_stopping_leaves_the_model_as_it_was(model):
    before = np.array(model.net(mx.array([CLEAN])))

    def interrupted(rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep_of(model, all_cells(model)).run(interrupted, progress=False)
    assert not any(hasattr(type(m), "_mlxtrace_original") for m in model.net.modules())
    assert (np.array(model.net(mx.array([CLEAN]))) == before).all()


def test_activations_are_let_go_at_the_end_however_it_comes(model, request):
    def kept():
        return [weakref.ref(x) for x in sweep._begun.sources[False].values()]

    def interrupted(rows):
        raise KeyboardInterrupt

    choice.choose(model.resolver)
    gc.collect()
    gc.disable()  # at once, and not when Python next looks for cycles
    request.addfinalizer(gc.enable)
    for measure in (logits_of, interrupted):
        sweep = sweep_of(model, all_cells(model))
        sweep.begin()
        arrays = kept()
        assert arrays and all(ref() is not None for ref in arrays)
        with contextlib.suppress(KeyboardInterrupt):
            sweep.run(measure, progress=False)
        assert not any(ref() is not None for ref in arrays)
        again = sweep.run(logits_of, progress=False)  # the plain runs are made again
        assert again.plan.passes > 0


def test_several_metrics_cost_one_sweep(model, monkeypatch):
    from mlxtrace.engine.batch import Batch

    ran, honest = [], Batch.run
    monkeypatch.setattr(Batch, "run", lambda self: ran.append(1) or honest(self))
    one = model.activation_patching(CLEAN, CORRUPTED, metric="prob", positions="each", progress=False)
    single = len(ran)
    several = model.activation_patching(
        CLEAN, CORRUPTED, metric=["prob", "kl", "logit"], positions="each", progress=False
    )
    assert len(ran) == 2 * single
    np.testing.assert_array_equal(several.raw[0], one.raw)


def test_a_shared_preamble_is_run_once(model):
    preamble = list(np.random.RandomState(0).randint(0, 160, 100))
    clean, corrupted = preamble + CLEAN[2:], preamble + CORRUPTED[2:]
    options = dict(component="resid_post", positions="each", metric="logit", progress=False)
    fast = model.activation_patching(clean, corrupted, **options)
    assert fast.plan.prefix and min(fast.plan.starts) == 100
    slow = model.activation_patching(clean, corrupted, layers=1, engine="flat", **options)
    np.testing.assert_allclose(fast.raw[1], slow.raw[0], atol=5e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_stays_half_and_agrees(dtype):
    model = InterpretableModel(make("llama"), dtype=dtype)
    options = dict(component="resid_post", positions="each", metric="logit", progress=False)
    fast = model.activation_patching(CLEAN, CORRUPTED, **options)
    slow = model.activation_patching(CLEAN, CORRUPTED, engine="loop", **options)
    np.testing.assert_allclose(fast.raw, slow.raw, atol=0.1 * np.abs(slow.raw).max())
    assert calibration.compute_dtype(model.resolver) == getattr(mx, dtype)


def test_quantized_models_sweep():
    model = InterpretableModel(make("llama", quantize=4))
    options = dict(component=["attn", "mlp"], positions="each", metric="logit", progress=False)
    fast = model.activation_patching(CLEAN, CORRUPTED, **options)
    slow = model.activation_patching(CLEAN, CORRUPTED, engine="loop", **options)
    np.testing.assert_allclose(fast.raw, slow.raw, atol=1e-3 * np.abs(slow.raw).max())


@pytest.mark.parametrize("engine", ["fanout", "flat", "loop"])
def test_a_metric_may_ask_for_every_position(model, engine):
    @every_position
    def certainty_of_what_follows(logits):
        p = np.exp(logits - logits.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        return np.log(p[:, np.arange(len(CLEAN) - 1), CLEAN[1:]]).sum(-1)

    asked = [certainty_of_what_follows, "logit"]
    result = model.activation_patching(
        CLEAN, CORRUPTED, "resid_post", positions="each", metric=asked, engine=engine, progress=False
    )
    last = model.activation_patching(
        CLEAN, CORRUPTED, "resid_post", positions="each", metric="logit", progress=False
    )
    np.testing.assert_allclose(result.raw[1], last.raw, atol=5e-5)
    with model.trace(CORRUPTED) as trace:
        with model.trace(CLEAN):
            h = model.layers[2].output.save()
        model.layers[2].output[:, 3] = h[:, 3]
    expected = certainty_of_what_follows(np.array(trace.output).astype(np.float64))[0]
    assert result.raw[0, 2, 3] == pytest.approx(expected, abs=1e-4)
    assert abs(result.raw[0, 2, 3] - result.corrupted["certainty_of_what_follows"]) > 1e-3


@pytest.mark.parametrize("engine", ["loop", "fanout", "flat"])
@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_the_logits_of_the_last_positions_are_those_of_a_sweep_that_reads_all(name, engine):
    """Cells before, at and behind the first position that is read, in every layer, with a prefix shared or none."""
    traced = InterpretableModel(make(name))
    resolver = traced.resolver
    where = [(part, at) for part in ("attn", "resid_post") for at in (3, 6, 7)]
    cells = [
        Cell((Patch(resolver.site(part, layer), (at,), (at,)),))
        for layer in range(resolver.n_layers)
        for part, at in where
    ]

    def values(engine, **asked):
        """Logits of the last three positions, flat."""
        sweep = Sweep(resolver, Run(tuple(CLEAN)), Run(tuple(CORRUPTED)), cells, engine, 1 << 40, **asked)
        return sweep.run(lambda x: x[:, -3:].reshape(len(x), -1).T.astype(float), progress=False)

    found = values(choice.choose(resolver, engine), read=3)
    right = values(choice.choose(resolver, "loop"), every_position=True)
    close(found.values, right.values, traced)
    close(found.base, right.base, traced)
    assert np.ptp(right.values, axis=1).max() > 1e-2  # the cells do something
