"""Causal mediation: the seeds' loops redone by hand with traces, laws, and what bad input gets."""

import mlx.core as mx
import models
import numpy as np
import pytest
from noise import close

import mlxtrace
from mlxtrace import GaussianNoise
from mlxtrace.errors import EffectError, MlxtraceError

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
