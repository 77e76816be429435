"""Causal mediation: the seeds' loops redone by hand with traces, laws, and what bad input gets."""

import math

import mlx.core as mx
import models
import numpy as np
import pytest
from noise import close

import mlxtrace
from mlxtrace import CausalEffects, GaussianNoise
from mlxtrace.errors import EffectError, InputError, MlxtraceError
from mlxtrace.experiments.noising_window import NoisingWindow, noising_window

BASE = [7, 31, 32, 90, 15, 120]
SOURCE = [7, 55, 61, 90, 15, 120]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request):
    return mlxtrace.InterpretableModel(models.make(request.param, seed=2))


def probabilities(model, ids, edits=None):
    with model.trace(ids, interventions=edits or {}) as trace:
        pass
    x = np.array(trace.output[0, -1], dtype=np.float64)
    p = np.exp(x - x.max())
    return p / p.sum(), trace.activations


def by_hand(model, component, answers, difference=False, position=None):
    """Seeds 000 and 002, one pass per cell: (total, direct, indirect), by layer at one position or at all."""
    base, base_cache = probabilities(model, BASE)
    source, source_cache = probabilities(model, SOURCE)
    ours, theirs = answers

    def value(p):
        return p[ours] - p[theirs] if difference else p[ours]

    def patched(ids, cache, layer):
        name = f"layers.{layer}.{component}"

        def put(x):
            y = mx.array(x)
            where = slice(None) if position is None else position
            y[:, where] = cache[name][:, where]
            return y

        return value(probabilities(model, ids, {name: put})[0])

    layers = range(model.n_layers)
    direct = [patched(BASE, source_cache, layer) for layer in layers]
    indirect = [value(source) - patched(SOURCE, base_cache, layer) for layer in layers]
    return base[theirs] - source[ours], np.array(direct), np.array(indirect)


def tops(model):
    return int(probabilities(model, SOURCE)[0].argmax()), int(probabilities(model, BASE)[0].argmax())


@pytest.mark.parametrize("component", ["resid_post", "mlp", "attn"])
def test_effects_by_layer_are_the_seeds(model, component):
    effects = model.causal_effects(BASE, SOURCE, component, progress=False)
    assert (effects.source_answer.token, effects.base_answer.token) == tops(model)
    total, direct, indirect = by_hand(model, component, tops(model))
    close(effects.total, total, model, "probability")
    close(effects.direct, direct, model, "probability")
    close(effects.indirect, indirect, model, "probability")


def test_position_map_of_the_probability_difference(model):
    answers = tops(model)
    assert answers[0] != answers[1]
    effects = model.causal_effects(BASE, SOURCE, positions="each", metric="prob_diff", progress=False)
    assert effects.direct.shape == (model.n_layers, len(BASE)) and effects.metric == "prob_diff"
    for position in (0, 1, 2, len(BASE) - 1):
        _, direct, indirect = by_hand(model, "resid_post", answers, True, position)
        close(effects.direct[:, position], direct, model, "probability")
        close(effects.indirect[:, position], indirect, model, "probability")
    assert effects.total == effects.change == effects.source_value - effects.base_value


def test_laws(model):
    whole = model.causal_effects(BASE, SOURCE, progress=False)  # all of the stream: the other run itself
    close(whole.direct, np.full_like(whole.direct, whole.source_value), model, "probability")
    close(whole.indirect, np.full_like(whole.direct, whole.change), model, "probability")
    there = model.causal_effects(BASE, SOURCE, "mlp", target=3, foil=9, metric="prob_diff", progress=False)
    back = model.causal_effects(SOURCE, BASE, "mlp", target=9, foil=3, metric="prob_diff", progress=False)
    close(there.source_value - there.indirect, -back.direct, model, "probability")  # mirror images
    each = model.causal_effects(BASE, SOURCE, positions="each", progress=False)
    np.testing.assert_allclose(each.direct[:, 0], each.base_value, atol=1e-7)  # the first tokens are equal
    np.testing.assert_allclose(
        each.direct[-1, 1:-1], each.base_value, atol=1e-7
    )  # the last layer hands nothing on


def test_a_noised_base_is_the_mean_over_samples(model):
    noise = GaussianNoise([1, 2], level=0.5, samples=3)
    effects = model.causal_effects(noise, SOURCE, positions="each", progress=False)
    trace = model.causal_trace(SOURCE, [1, 2], noise=0.5, samples=3, progress=False)
    close(effects.direct.T, trace.scores, model, "probability")
    assert effects.base_value == pytest.approx(trace.low_score)


def test_answers_may_be_given_and_must_differ(llama_folder):
    model = mlxtrace.InterpretableModel(llama_folder)
    base, source = "Paris is in the country of", "Berlin is in the country of"
    effects = model.causal_effects(
        base, source, target=" Brazil", foil=" France", align="ends", progress=False
    )
    assert effects.source_answer.token == model.answer_token(" Brazil", source)
    assert effects.base_answer.text.startswith(" F")
    with pytest.raises(EffectError, match="both are"):
        model.causal_effects(
            base, source, target=" France", foil=" France", metric="prob_diff", align="ends", progress=False
        )


def test_results_print_plot_save_and_load(model, tmp_path):
    for positions in (None, "each"):
        effects = model.causal_effects(BASE, SOURCE, "mlp", positions=positions, progress=False)
        assert "base" in repr(effects) and len(effects.to_rows()) == effects.direct.size
        effects.plot(tmp_path / f"{positions}.png")
        loaded = CausalEffects.load(effects.save(tmp_path / f"{positions}.npz"))
        np.testing.assert_array_equal(loaded.direct, effects.direct)
        np.testing.assert_array_equal(loaded.indirect, effects.indirect)
        assert loaded.total == effects.total and repr(loaded) == repr(effects)
        assert loaded.top(1) == effects.top(1)
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(effects.direct, effects.indirect)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"component": "mpl"}, "closest: mlp"),
        ({"component": ["mlp", "attn"]}, "one name"),
        ({"component": "head"}, "activation_patching"),
        ({"component": "pattern"}, "activation_patching"),
        ({"metric": np.array(["prob"])}, "no metric"),
        ({"metric": "probb"}, "closest"),
        ({"window": 0}, "window"),
        ({"layers": [99]}, "does not exist"),
        ({"source": [7, 55, 61]}, "6 tokens|3 tokens"),
        ({"source": BASE}, "same tokens"),
    ],
    ids=str,
)
def test_bad_input(model, options, says):
    with pytest.raises(MlxtraceError, match=says):
        model.causal_effects(**{"base": BASE, "source": SOURCE, "progress": False, **options})


# ---- noise everywhere but in a window


def noised_by_hand(model, centre, window, level, seed, sample, samples, answer):
    """Seed 000's loop: noise or restore, layer by layer, in one pass of one row."""
    _, clean = probabilities(model, BASE)
    n = model.n_layers
    noise = np.random.RandomState(seed).randn(samples, n, len(BASE), model.d_model)

    def edit(layer):
        def fn(x):
            if centre is not None and abs(layer - centre) <= window // 2:
                return clean[f"layers.{layer}.resid_post"]
            return x + level * mx.array(noise[sample, layer].astype(np.float32))

        return fn

    edits = {f"layers.{layer}.resid_post": edit(layer) for layer in range(n)}
    return probabilities(model, BASE, edits)[0][answer]


@pytest.mark.parametrize("window", [1, 2, 3])
def test_noising_window_is_the_seeds(model, window):
    result = noising_window(model, BASE, window=window, level=0.4, samples=2, seed=3)
    for centre in range(model.n_layers):
        for sample in range(2):
            expected = noised_by_hand(model, centre, window, 0.4, 3, sample, 2, result.answer.token)
            close(result.raw[centre, sample], expected, model, "probability")
    every = [noised_by_hand(model, None, 1, 0.4, 3, s, 2, result.answer.token) for s in range(2)]
    close(result.noised, np.mean(every), model, "probability")
    assert result.scores[-1] == pytest.approx(
        result.clean, abs=1e-6
    )  # nothing is noised above the last window


def test_noising_window_laws(model, tmp_path, monkeypatch):
    result = noising_window(model, BASE, level=0.4, samples=3)
    again = noising_window(model, BASE, level=0.4, samples=3)
    np.testing.assert_array_equal(result.raw, again.raw)
    assert np.abs(noising_window(model, BASE, level=0.4, samples=3, seed=1).raw - result.raw).max() > 1e-4
    still = noising_window(model, BASE, level=0)
    close(still.scores, np.full_like(still.scores, still.clean), model, "probability")
    monkeypatch.setattr("mlxtrace.experiments.noising_window.CHUNK_ROWS", 5)
    close(noising_window(model, BASE, level=0.4, samples=3).raw, result.raw, model, "probability")
    some = noising_window(model, BASE, level=0.4, samples=3, layers=[1])
    close(some.raw[0], result.raw[1], model, "probability")
    loaded = NoisingWindow.load(result.save(tmp_path / "noising"))
    np.testing.assert_array_equal(loaded.raw, result.raw)
    result.plot(tmp_path / "noising.pdf")
    assert repr(loaded) == repr(result) and len(result.to_rows()) == model.n_layers
    for bad in (
        *({"level": x} for x in (-1.0, "s3", math.inf, math.nan, True)),
        *({"window": 0}, {"samples": 0}, {"seed": 2**32}),
        *({"component": x} for x in ("embed", "mpl", None, ["mlp"])),
    ):
        with pytest.raises(InputError):
            noising_window(model, BASE, **bad)
