"""The screen as a user asks for it, against exact maps of every cell."""

import mlx.core as mx
import models
import more_models
import numpy as np
import pytest

from mlxtrace import GaussianNoise, InterpretableModel, errors, prompts
from mlxtrace.engine import choice
from mlxtrace.experiments.screen_cells import ScreenCells
from mlxtrace.prompts import Pair
from mlxtrace.results.missed import most_above

CLEAN = [3, 17, 5, 90, 41, 8, 77]
CORRUPTED = [3, 17, 66, 12, 41, 8, 77]
KEYS = ("layer", "position", "region", "head", "neuron")


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(models.make("llama", seed=2))


def exact(model, *prompts, component="neuron", positions="each", **options):
    """The effects of every cell by the exact sweep, by place."""
    neurons = {"neurons": "each"} if component == "neuron" else {}
    result = model.activation_patching(
        *prompts, component=component, positions=positions, progress=False, **neurons, **options
    )
    base = result.clean if options.get("direction") == "noise" else result.corrupted
    return {place(row): row[result.metrics[0]] - base for row in result.to_rows()}


def place(row):
    return tuple(row.get(key) for key in KEYS)


def check(found, right, tolerance=2e-5):
    """Every number of a screen against all effects; the bound holds; the ten strongest are there."""
    assert found.cells == len(right) and len(found.to_rows()) == len({place(r) for r in found.to_rows()})
    off = [abs(row["effect"] - right[place(row)]) for row in found.to_rows()]
    assert max(off) < tolerance, max(off)
    verified = {place(row) for row in found.verified}
    rest = [x for where, x in right.items() if where not in verified]
    assert sum(abs(x) > found.threshold + tolerance for x in rest) <= found.missed_cells
    return sorted(right, key=lambda where: -abs(right[where]))[:10], verified


QUICK = {("gpt2", "denoise"), ("gpt2", "noise"), ("gemma3_text", "noise"), ("gemma4_text", "denoise")}


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        pytest.param(name, direction, marks=[] if (name, direction) in QUICK else [pytest.mark.heavy])
        for name in ("gpt2", "llama", "gemma3_text", "phi", "gemma4_text")
        for direction in ("denoise", "noise")
    ],
)
def test_single_neurons(name, direction):
    """Also where layers have other numbers of neurons."""
    model = InterpretableModel(models.make(name, seed=4))
    options = {"metric": "logit_diff", "target": 7, "foil": 90, "direction": direction}
    right = {}
    for layers in ([0, 1], [2, 3]) if name == "gemma4_text" else (None,):
        right.update(exact(model, CLEAN, CORRUPTED, layers=layers, **options))
    found = model.screen(CLEAN, CORRUPTED, progress=False, **options)
    best, verified = check(found, right)
    assert len(verified) == 200 and len(found.audit.rows) == 300
    assert (
        len(verified & set(best)) >= 9
    )  # of random weights, in which nothing is as smooth as in trained ones


@pytest.mark.parametrize("component", ["resid_mid", "attn", "mlp", "head", "q", "k", "v", "pattern"])
def test_every_component(model, component):
    right = exact(model, CLEAN, CORRUPTED, component=component, metric="logprob", target=7)
    found = model.screen(
        CLEAN, CORRUPTED, component, verify=12, audit=20, metric="logprob", target=7, progress=False
    )
    check(found, right)


def test_several_components_share_one_ranking(model):
    options = {"metric": "logit", "target": 7}
    found = model.screen(
        CLEAN, CORRUPTED, ["mlp", "head", "neuron"], verify=60, audit=60, progress=False, **options
    )
    assert found.cells == 3 * 7 * (1 + 4 + 96) and set(found.methods) == {"mlp", "head", "neuron"}
    for component in ("mlp", "head", "neuron"):
        right = exact(model, CLEAN, CORRUPTED, component=component, **options)
        rows = [row for row in found.to_rows() if row["component"] == component]
        assert rows and all(row["effect"] == pytest.approx(right[place(row)], abs=2e-5) for row in rows)
    assert [row["component"] for row in found.verified].count("mlp") >= 3


def test_sets_regions_noise_and_tails(model):
    pairs = [Pair(CLEAN, CORRUPTED, id="a"), Pair(CLEAN[::-1], CORRUPTED[::-1], id="b")]
    options = {"metric": "logprob", "target": 7}
    found = model.screen(pairs, verify=30, audit=30, progress=False, **options)
    check(found, exact(model, pairs, **options))
    assert found.per_pair.shape == (2, 60) and not np.array_equal(*found.per_pair)
    tasks = [Pair(CLEAN, CORRUPTED, subject=[2, 3]), Pair(CLEAN[1:], [9, *CLEAN[2:]], subject=[0])]
    found = model.screen(tasks, positions="regions", verify=20, audit=20, progress=False, **options)
    check(found, exact(model, tasks, positions="regions", **options))
    noise = GaussianNoise(subject=[2, 3], samples=3)
    found = model.screen(CLEAN, noise, layers=[1, 2], verify=20, audit=20, progress=False, **options)
    check(found, exact(model, CLEAN, noise, layers=[1, 2], **options))
    longer = [3, 17, 66, 12, 99, 41, 8, 77]
    found = model.screen(CLEAN, longer, align="ends", verify=20, audit=20, progress=False, **options)
    check(found, exact(model, CLEAN, longer, align="ends", **options))


def test_quantized_models_and_custom_metrics():
    model = InterpretableModel(models.make("llama", seed=2, quantize=4))
    found = model.screen(
        CLEAN, CORRUPTED, layers=[2], verify=20, audit=20, progress=False, metric=lambda x: x[:, 5] - x[:, 7]
    )
    right = exact(model, CLEAN, CORRUPTED, layers=[2], metric=lambda x: x[:, 5] - x[:, 7])
    check(found, right, 1e-4)


@pytest.mark.parametrize("metric", ["prob", "prob_diff", "kl"])
def test_metrics_that_interpolation_cannot_follow_are_ranked_by_others(model, metric):
    options = {"metric": metric, "target": 7, "foil": 90, "layers": [1, 2]}
    found = model.screen(CLEAN, CORRUPTED, verify=60, audit=60, progress=False, **options)
    best, verified = check(found, exact(model, CLEAN, CORRUPTED, **options))
    assert (
        found.metric == metric and found.methods == {"neuron": "atp + ig"} and len(set(best) & verified) >= 9
    )


def test_a_ranking_that_a_model_does_not_allow_is_left_out_and_said(model, monkeypatch):
    estimated = ScreenCells.estimated

    def without(*refused):
        def some(self, pair, methods, gradients, memory):
            if set(methods.values()) & set(refused):
                raise errors.UnsupportedError("no way back")
            return estimated(self, pair, methods, gradients, memory)

        monkeypatch.setattr(ScreenCells, "estimated", some)

    options = {"metric": "logit", "target": 7, "layers": 2, "verify": 10, "audit": 5, "progress": False}
    alone = model.screen(CLEAN, CORRUPTED, method="ig", **options)
    without("atp")
    found = model.screen(CLEAN, CORRUPTED, **options)
    assert found.to_rows()[:10] == alone.to_rows()[:10] and "not ranked by atp: no way back" in repr(found)
    assert found.methods == {"neuron": "ig"} and " by ig   rank" in repr(found)
    without("atp", "ig")
    with pytest.raises(errors.UnsupportedError, match="no way back"):
        model.screen(CLEAN, CORRUPTED, **options)


def test_what_must_be_said_of_a_pair_is_said(model):
    tasks = [Pair(CLEAN, CORRUPTED, id="a"), Pair(CLEAN, CORRUPTED, id="b")]
    found = model.screen(tasks, layers=2, verify=5, audit=5, metric="logit", target=7, progress=False)
    assert any("copy of another" in note for note in found.notes) and len(set(found.notes)) == len(
        found.notes
    )


def test_few_cells_are_all_verified(model):
    found = model.screen(CLEAN, CORRUPTED, "mlp", layers=2, metric="logit", target=7, progress=False)
    assert found.missed_bound == 0 and len(found.verified) == found.live == 1 and found.audit.drawn == 0
    assert "nothing is missed" in found.sentence


def test_the_same_seed_is_the_same_screen(model):
    options = {"verify": 20, "audit": 20, "metric": "logit", "target": 7, "progress": False}
    one, same, other = (model.screen(CLEAN, CORRUPTED, seed=seed, **options) for seed in (1, 1, 2))
    assert one.to_rows() == same.to_rows()
    assert [place(r) for r in one.verified] == [place(r) for r in other.verified]
    effects = [[r["effect"] for r in found.verified] for found in (one, other)]
    np.testing.assert_allclose(*effects, atol=2e-5)  # other cells beside them in a batch
    assert {place(r) for r in one.audit.rows} != {place(r) for r in other.audit.rows}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"verify": 0}, "verify is a whole number of 1"),
        ({"verify": 2.5}, "verify is a whole number"),
        ({"verify": True}, "verify is a whole number"),
        ({"audit": -1}, "audit is a whole number of 0"),
        ({"audit": "all"}, "audit is a whole number"),
        ({"until": "steady"}, "until='steady' is unknown"),
        ({"until": 10}, "until=10 is unknown"),
        ({"seconds": 0}, "seconds is a number above 0"),
        ({"seconds": "10"}, "seconds is a number above 0"),
        ({"seconds": True}, "seconds is a number above 0"),
        ({"seconds": float("nan")}, "seconds is a number above 0"),
        ({"passes": 0}, "passes is a whole number of 1"),
        ({"passes": 1.5}, "passes is a whole number"),
        ({"method": "ATP"}, "method='ATP' is unknown"),
        ({"method": None}, "method=None is unknown"),
        ({"seed": -1}, "seed is a whole number"),
        ({"component": "neurons"}, "unknown component"),
        ({"component": ["mlp", "mlp"]}, "several different"),
        ({"component": []}, "name one"),
        ({"heads": 2}, "heads= goes with"),
        ({"component": "head", "heads": 9}, "head 9 does not exist"),
        ({"layers": 7}, "layer 7 does not exist"),
        ({"positions": 99}, "outside the prompt"),
        ({"positions": "subjekt"}, "is unknown"),
        ({"within": "mean"}, "goes with positions"),
        ({"metric": ["logit", "kl"]}, "one metric, not by 2"),
        ({"metric": "rank"}, "no gradient"),
        ({"metric": "prob", "method": "ig"}, "logprob or logit_diff"),
        ({"metric": lambda x: np.exp(x[:, 0])}, "cannot be differentiated"),
        ({"metric": "kl", "direction": "noise"}, "direction"),
        ({"direction": "both"}, "direction='both'"),
        ({"engine": "fast"}, "engine"),
        ({"max_memory": -3}, "max_memory"),
    ],
)
def test_bad_input_is_refused_before_any_sweep(model, monkeypatch, options, says):
    choice.choose(model.resolver)  # its trial sweeps are no sweeps of the screen
    monkeypatch.setattr("mlxtrace.engine.sweep.Sweep.run", None)
    with pytest.raises(errors.MlxtraceError, match=says):
        model.screen(CLEAN, CORRUPTED, **{"metric": "logit", "progress": False, **options})


def test_models_without_neurons_say_why():
    with pytest.raises(errors.UnsupportedError, match="experts"):
        InterpretableModel(models.make("mixtral")).screen(CLEAN, CORRUPTED, progress=False)


def test_the_arrays_of_the_caller_stay_as_they_are(model):
    ids = mx.array(CLEAN)
    model.screen(ids, CORRUPTED, layers=1, verify=5, audit=5, metric="logit", progress=False)
    assert ids.tolist() == CLEAN


@pytest.mark.heavy
@pytest.mark.parametrize("name", [*models.NAMES, *more_models.MORE])
def test_every_architecture_is_screened_right_or_refused(name):
    make = models.make if name in models.NAMES else more_models.make
    try:
        model = InterpretableModel(make(name))
        layers = [i for i in range(model.n_layers) if f"layers.{i}.neuron" in model.resolver.table]
        options = {"metric": "logit", "target": 7, "layers": layers[-1:]}
        found = model.screen(CLEAN, CORRUPTED, progress=False, verify=30, audit=30, **options)
    except (errors.UnsupportedError, errors.LoadError, errors.InputError, errors.EffectError) as why:
        pytest.skip(str(why)[:120])
    check(found, exact(model, CLEAN, CORRUPTED, **options), 1e-4)


@pytest.mark.heavy
def test_on_the_demo_200_verified_cells_hold_the_ten_strongest():
    """Exact maps of every neuron; and the bound over further samples of the audit."""
    model = InterpretableModel("demo")
    kept = prompts.suitable(model, prompts.load("facts")).pairs
    held, right = [], []
    for pair in kept[:6]:
        effects = exact(model, pair, metric="logit_diff")
        found = model.screen(pair, metric="logit_diff", progress=False)
        best, verified = check(found, effects)
        held.append(set(best) <= verified)
        rest = np.abs([x for where, x in effects.items() if where not in verified])
        rest = np.append(
            rest, np.abs([r["effect"] for r in found.verified])
        )  # bounds that are put to the test
        for seed in range(50):
            drawn = np.random.RandomState(seed).permutation(len(rest))[:300]
            threshold = np.sort(rest)[-200]  # 199 are above it
            bound = most_above(len(rest), 300, int((rest[drawn] > threshold).sum()))
            right.append((rest > threshold).sum() <= bound)
    assert all(held) and np.mean(right) >= 0.93


@pytest.mark.parametrize("component", ["neuron", ["head", "mlp"]])
@pytest.mark.parametrize(
    "answers",
    [{"target": [20, 31], "foil": [44, 9, 2]}, {"answers": [[20, 31], [50, 7]], "foil": 90}],
    ids=["one", "any"],
)
def test_whole_answers(component, answers):
    """What is verified and audited are the numbers of the exact sweep of whole answers."""
    model = InterpretableModel(models.make("gpt2", seed=4, n_layer=2))
    options = {"metric": "logit_diff", **answers}
    names = [component] if isinstance(component, str) else component
    right = {}
    for name in names:
        heads = {"heads": "each"} if name == "head" else {}
        right.update(exact(model, CLEAN, CORRUPTED, component=name, **heads, **options))
    found = model.screen(CLEAN, CORRUPTED, component, verify=30, audit=20, progress=False, **options)
    check(found, right)
    assert any("scored whole" in note for note in found.notes)
    pair = Pair(CLEAN, CORRUPTED, **answers)
    many = model.screen([pair], None, component, verify=30, audit=20, progress=False, metric="logit_diff")
    np.testing.assert_allclose(
        [row["effect"] for row in many.verified], [row["effect"] for row in found.verified], atol=2e-5
    )
