"""Attribution patching asks what activation patching asks; its estimates are held against what patches do."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from models import make
from more_models import make as make_more

from mlxtrace import GaussianNoise, InterpretableModel, prompts
from mlxtrace.errors import EffectError, InputError, UnsupportedError
from mlxtrace.experiments.attribution_patching import attributed
from mlxtrace.experiments.pair_sets import read_pairs

CLEAN, OTHER = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
IDS, CHANGED = [3, 10, 17, 24, 31, 38], [3, 90, 97, 24, 31, 38]
NINE = ["resid_pre", "q", "k", "v", "head", "attn", "neuron", "mlp", "resid_post"]
LOUD = {"metric": "logit_diff", "progress": False}


@pytest.fixture(scope="module")
def demo():
    return InterpretableModel("demo")


@pytest.fixture(scope="module")
def llama():
    return InterpretableModel(make("llama"))


def test_all_components_come_from_one_pair_of_passes(llama):
    result = llama.attribution_patching(IDS, CHANGED, component=NINE, positions="each", **LOUD)
    assert result.plan.passes == 2
    assert result.raw.shape == (9, llama.n_layers, len(result.tokens))
    for i, name in enumerate(NINE):
        heads = {"heads": list(range(llama.resolver.head_count(name, 0)))} if name in "qkvhead" else {}
        alone = llama.attribution_patching(IDS, CHANGED, component=name, positions="each", **heads, **LOUD)
        assert np.allclose(alone.raw, result.raw[i], atol=1e-4), name


@pytest.mark.parametrize("method", ["atp", "atp*", "ig"])
@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize(
    "where",
    [
        {"component": "mlp", "positions": "each"},
        {"component": ["attn", "resid_mid"], "positions": "subject", "subject": range(1, 3)},
        {"component": "head", "positions": "last", "layers": [1]},
        {"component": "k"},
        {"component": "mlp", "window": 3, "metric": ["logprob", "logit"]},
        {"component": "neuron", "neurons": "each", "layers": [1]},
    ],
)
def test_it_has_the_shape_and_the_ends_of_activation_patching(llama, where, direction, method):
    options = {"metric": "logit_diff", "direction": direction, "progress": False, **where}
    found = llama.attribution_patching(IDS, CHANGED, method=method, **options)
    right = llama.activation_patching(IDS, CHANGED, **options)
    assert found.dims == right.dims and found.coords == right.coords and found.raw.shape == right.raw.shape
    assert found.clean == pytest.approx(right.clean, abs=1e-4)
    assert found.corrupted == pytest.approx(right.corrupted, abs=1e-4)
    assert found.direction == right.direction and found.no_effect == right.no_effect


def test_estimates_follow_what_patches_do(demo):
    found, right = (
        call(CLEAN, OTHER, component="mlp", positions="each", **LOUD)
        for call in (demo.attribution_patching, demo.activation_patching)
    )
    assert np.corrcoef(found.raw.ravel(), right.raw.ravel())[0, 1] > 0.6


def test_a_window_is_the_sum_of_its_layers(llama):
    one, three = (llama.attribution_patching(IDS, CHANGED, window=w, **LOUD) for w in (1, 3))
    assert three.scores[1] == pytest.approx(one.scores.sum(), abs=1e-4)


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_noise_is_averaged_over_its_samples(demo, direction):
    noise = GaussianNoise("Eiffel Tower", samples=3)
    options = {
        "positions": "each",
        "layers": [0, 3],
        "direction": direction,
        "metric": "logprob",
        "progress": False,
    }
    found, right = (
        call(CLEAN, noise, **options) for call in (demo.attribution_patching, demo.activation_patching)
    )
    assert found.corrupted == pytest.approx(right.corrupted, abs=1e-4)
    assert found.raw.shape == right.raw.shape and found.scores.any()


def test_sets_are_averaged_with_their_intervals(demo):
    pairs = [prompts.Pair(CLEAN, OTHER), prompts.Pair("The Louvre Museum is in the city of", OTHER)]
    result = demo.attribution_patching(pairs, positions="regions", **LOUD)
    assert result.per_pair.shape[0] == 2 and np.isfinite(result.interval).any()
    alone = demo.attribution_patching(pairs[1], positions="regions", **LOUD)
    assert np.allclose(result.single(1).raw, alone.raw)


@pytest.mark.parametrize("options", [{"quantize": 4}, {"dtype": mx.bfloat16}])
def test_quantized_and_half_precision_models_are_estimated(options):
    model = InterpretableModel(make("llama", **options))
    result = model.attribution_patching(
        IDS, CHANGED, component=["mlp", "k", "neuron"], method="atp*", metric="logit", progress=False
    )
    assert np.isfinite(result.raw).all() and result.scores.any()


def test_one_function_serves_both(llama):
    def margin(x):
        return x[:, 0] - x.max(-1)

    def spread(x):
        return mx.logsumexp(x, axis=-1)

    found = llama.attribution_patching(IDS, CHANGED, metric=[margin, spread], progress=False)
    right = llama.activation_patching(IDS, CHANGED, metric=margin, progress=False)
    assert found.metrics == ["margin", "spread"]
    assert found.clean["margin"] == pytest.approx(right.clean, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "atp**"}, "atp"),
        ({"metric": "rank"}, "rank has no gradient to estimate with; use one of prob"),
        ({"metric": "prob", "method": "ig"}, "use logprob or logit_diff"),
        ({"metric": "prob_diff", "method": "ig"}, "use logprob or logit_diff"),
        ({"metric": "kl", "direction": "noise"}, "it is flat there, and every estimate would be 0"),
        ({"metric": lambda x: np.log(x[:, 0] ** 2)}, "write it with mlx.core .* serves activation_patching"),
        ({"metric": lambda x: (x[:, 0] > x[:, 1]) * 1.0 + 1e-3 * (x[:, 3] > x[:, 2])}, "gradient of zero|hardly moves"),
        ({"component": ["q", "mlp"], "heads": "each"}, "leave it out, so that all heads of a component"),
        ({"component": "mlp", "heads": [0]}, "heads= goes with"),
        ({"max_memory": 100}, "need about"),
        ({"plot": "x.png"}, "plot"),
    ],
)  # fmt: skip
def test_what_cannot_mean_anything_is_refused(llama, options, said):
    with pytest.raises((InputError, EffectError), match=said):
        llama.attribution_patching(IDS, CHANGED, progress=False, **options)


def test_ig_follows_kl_where_it_is_flat_at_the_run_that_is_patched(llama):
    result = llama.attribution_patching(
        IDS, CHANGED, metric="kl", direction="noise", method="ig", progress=False
    )
    assert result.scores.any()


def test_auto_is_the_log_probability_on_the_way_between_two_runs(llama):
    assert llama.attribution_patching(IDS, CHANGED, method="ig", progress=False).metrics == ["logprob"]
    assert llama.attribution_patching(IDS, CHANGED, progress=False).metrics[0] in ("prob", "kl")


def test_models_without_gradients_are_refused_with_the_reason():
    model = InterpretableModel(make_more("afm7"))
    with pytest.raises(UnsupportedError, match="finite differences of its forward pass give"):
        model.attribution_patching(IDS, CHANGED, progress=False)


def test_little_memory_changes_no_number(llama):
    options = {"component": ["neuron", "head", "k"], "method": "atp*", "positions": "each", **LOUD}
    whole = llama.attribution_patching(IDS, CHANGED, **options)
    tight = llama.attribution_patching(IDS, CHANGED, max_memory=int(whole.plan.bytes * 0.7), **options)
    assert tight.plan.passes > whole.plan.passes and tight.plan.bytes < whole.plan.bytes
    assert np.allclose(tight.raw, whole.raw, atol=1e-3)


def test_what_a_screen_stands_on(llama):
    made = read_pairs(llama, IDS, CHANGED)
    (one,), notes = attributed(
        llama, made, ["neuron", "mlp"], positions="each", metric="logit_diff", progress=False
    )
    maps = one.attributions[0].maps
    assert maps["layers.1.neuron"].shape == (1, len(IDS), 96) and not notes
    assert one.values().shape == (1, 2 * 3 * len(IDS), 1)
    assert one.base.shape == one.source.shape == (1, 1) and len(one.grid.cells(one.roles)) == 36


@pytest.mark.parametrize("method", ["atp", "atp*"])
@pytest.mark.parametrize(
    "where",
    [
        {"component": "head", "positions": "each", "window": 3},
        {"component": "k", "heads": [0, 1], "positions": [1, 2]},
        {"component": ["mlp", "resid_pre"], "window": 2},
        {"component": "neuron", "neurons": "each", "positions": "last"},
    ],
)
def test_all_cells_together_are_the_cells_one_by_one(llama, where, method):
    made = read_pairs(llama, IDS, CHANGED)
    (one,), _ = attributed(llama, made, metric="logit_diff", method=method, progress=False, **where)
    found = one.values()[0] - one.base[0]
    right = np.stack([one.attributions[0].of(cell) for cell in one.grid.cells(one.roles)])
    assert np.allclose(found, right, atol=1e-5)


def test_a_window_of_states_is_no_estimate_of_anything(llama):
    options = {"metric": "logit_diff", "window": 2, "progress": False}
    with pytest.warns(UserWarning, match="adds up 2 estimates of what is one state"):
        found = llama.attribution_patching(IDS, CHANGED, component=["mlp", "resid_pre"], **options)
    assert any("adds up" in note for note in found.notes)
    alone = llama.attribution_patching(
        IDS, CHANGED, ["mlp", "resid_pre"], **{**options, "window": {"mlp": 2}}
    )
    assert alone.settings["windows"] == {"mlp": 2, "resid_pre": 1} and not any(
        "adds" in n for n in alone.notes
    )
    np.testing.assert_array_equal(alone.raw[0], found.raw[0])
    beside = llama.attribution_patching(IDS, CHANGED, ["mlp", "head"], **{**options, "window": {"mlp": 2}})
    np.testing.assert_allclose(beside.raw[0], found.raw[0], atol=1e-6)


# ---- answers of several tokens


WHOLE_CLEAN, WHOLE_CORRUPTED = [3, 17, 5, 90, 41, 8], [3, 17, 66, 12, 41, 8]
WHOLE_TARGET, WHOLE_FOIL = [20, 31], [44, 9, 2]


@pytest.mark.parametrize("method", ["atp", "ig"])
@pytest.mark.parametrize(
    "component", [["resid_pre", "attn", "mlp", "neuron"], ["head", "q", "pattern"], ["k", "v"]]
)
def test_of_whole_answers_they_are_the_sum_over_their_tokens(method, component):
    """Each token behind those before it is an answer of one token to a longer prompt."""
    model = InterpretableModel(make("llama", seed=1, num_hidden_layers=2))
    where = {"component": component, "positions": list(range(6)), "method": method, "progress": False}

    def run(clean, corrupted, **asked):
        return np.asarray(model.attribution_patching(clean, corrupted, **where, **asked).scores)

    def by_token(answer):
        parts = [
            run(WHOLE_CLEAN + answer[:i], WHOLE_CORRUPTED + answer[:i], metric="logprob", target=token)
            for i, token in enumerate(answer)
        ]
        return sum(parts)

    target, foil = by_token(WHOLE_TARGET), by_token(WHOLE_FOIL)
    scale = np.abs([target, foil]).max()
    both = WHOLE_CLEAN, WHOLE_CORRUPTED
    np.testing.assert_allclose(run(*both, metric="logprob", target=WHOLE_TARGET), target, atol=3e-5 * scale)
    against = run(*both, metric="logit_diff", target=WHOLE_TARGET, foil=WHOLE_FOIL)
    np.testing.assert_allclose(against, target - foil, atol=6e-5 * scale)
    mean = run(*both, metric="logprob_mean", target=WHOLE_TARGET)
    np.testing.assert_allclose(mean, target / 2, atol=3e-5 * scale)


def test_whole_answers_screen_in_full_and_look_at_the_prompts_end():
    """`atp*` is the mean size of its drops, each the sum over all tokens; kl sees the position behind the prompt."""
    model = InterpretableModel(make("gpt2", seed=1, n_layer=2))
    where = {"component": ["attn", "mlp"], "positions": "each", "progress": False}
    both = WHOLE_CLEAN, WHOLE_CORRUPTED
    kl = model.attribution_patching(*both, metric="kl", **where)
    whole = model.attribution_patching(*both, metric=["kl", "prob"], target=WHOLE_TARGET, **where)
    np.testing.assert_allclose(whole.scores[:, 0], kl.scores, atol=2e-4 * np.abs(kl.scores).max())
    exact = model.activation_patching(*both, metric=["kl", "prob"], target=WHOLE_TARGET, **where)
    assert whole.clean == pytest.approx(exact.clean, rel=1e-4)
    assert whole.corrupted == pytest.approx(exact.corrupted, rel=1e-4)
    starred = model.attribution_patching(*both, metric="logprob", target=WHOLE_TARGET, method="atp*", **where)
    assert starred.settings["approximate"] == "atp*" and np.isfinite(starred.scores).all()
    assert any("scored whole" in note for note in starred.notes) and starred.target.tokens == (20, 31)
    with pytest.raises(InputError, match="logit is of one token"):
        model.attribution_patching(*both, metric="logit", target=WHOLE_TARGET, **where)


def test_whole_answers_of_a_set_and_of_noise():
    model = InterpretableModel(make("gpt2", seed=1, n_layer=2))
    where = {"component": "mlp", "metric": "logprob", "progress": False}
    pairs = [
        prompts.Pair(WHOLE_CLEAN, WHOLE_CORRUPTED, tuple(WHOLE_TARGET), id="two"),
        prompts.Pair(WHOLE_CLEAN, WHOLE_CORRUPTED, 7, id="one"),
        prompts.Pair(WHOLE_CLEAN, WHOLE_CORRUPTED, answers=[WHOLE_TARGET, [50, 6]], id="any"),
    ]
    many = model.attribution_patching(pairs, **where)
    for pair, single in zip(pairs, many.singles, strict=True):
        alone = model.attribution_patching(pair, **where)
        np.testing.assert_allclose(single.scores, alone.scores, atol=1e-5)
    noise = GaussianNoise(subject=range(2, 4), level=0.3, samples=2)
    whole = model.attribution_patching(WHOLE_CLEAN, noise, target=WHOLE_TARGET, positions=[2, 5], **where)
    each = [
        model.attribution_patching(
            WHOLE_CLEAN + WHOLE_TARGET[:i], noise, target=WHOLE_TARGET[i], positions=[2, 5], **where
        ).scores
        for i in range(2)
    ]
    np.testing.assert_allclose(whole.scores, sum(each), rtol=1e-3, atol=1e-4)
