"""Answers of several tokens, scored whole: against a loop by hand of raw passes, a token at a time."""

import mlx.core as mx
import models
import numpy as np
import pytest
from noise import close

from mlxtrace import GaussianNoise, InterpretableModel, metrics
from mlxtrace.errors import EffectError, InputError
from mlxtrace.experiments.whole_answers import answer_logprob

CLEAN = [3, 17, 40, 41, 52, 60, 77, 8, 9]
CORRUPTED = [3, 17, 90, 91, 52, 60, 77, 8, 9]
TARGET, APART, SHARED = (5, 6, 7), (9, 10), (5, 6, 11, 12)
LAYER = 1


@pytest.fixture(scope="module", params=["llama", "mamba"])
def model(request):
    return InterpretableModel(models.make(request.param))


@pytest.fixture(scope="module")
def llama():
    return InterpretableModel(models.make("llama"))


class Layer:
    """A layer in the model's place that gives what it gives, with rows of another run written in."""

    def __init__(self, net, at=(), values=None):
        self.layers = net.model.layers if hasattr(net, "model") else net.backbone.layers
        self.inner, self.at, self.values, self.seen = self.layers[LAYER], at, values, None

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __call__(self, *args, **options):
        out = mx.array(self.inner(*args, **options))
        self.seen = mx.array(out)
        for p in self.at:
            out[:, p] = self.values[:, p]
        return out

    def __enter__(self):
        self.layers[LAYER] = self
        return self

    def __exit__(self, *_):
        self.layers[LAYER] = self.inner


def by_hand(model, base, source, at, answer):
    """The log-probability of an answer, a pass for each of its tokens, with a layer's output patched at positions."""
    with Layer(model.net) as layer:
        mx.eval(model.net(mx.array([source])))
        values = layer.seen
    total = 0.0
    for i, token in enumerate(answer):
        with Layer(model.net, at, values):
            row = np.array(model.net(mx.array([[*base, *answer[:i]]]))[0, -1], dtype=np.float64)
        total += row[token] - row.max() - np.log(np.exp(row - row.max()).sum())
    return total


@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize("foil", [APART, SHARED, (9,)], ids=str)
def test_a_sweep_gives_what_a_loop_by_hand_gives(model, foil, direction):
    base, source = (CORRUPTED, CLEAN) if direction == "denoise" else (CLEAN, CORRUPTED)
    result = model.activation_patching(
        CLEAN,
        CORRUPTED,
        "resid_post",
        layers=LAYER,
        positions="each",
        metric=["logprob", "logit_diff", "prob", "logprob_mean"],
        target=list(TARGET),
        foil=list(foil),
        direction=direction,
        progress=False,
    )
    assert result.target.tokens == TARGET and result.foil.tokens == foil
    for at in (2, 3, len(CLEAN) - 1):
        ours, theirs = (by_hand(model, base, source, [at], answer) for answer in (TARGET, foil))
        right = [ours, ours - theirs, np.exp(ours), ours / 3]
        close(result.raw[:2, 0, at], np.array(right[:2]), model)
        np.testing.assert_allclose(result.raw[2:, 0, at], right[2:], rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("engine", ["loop", "flat"])
def test_every_engine_gives_the_same(llama, engine):
    options = {
        "metric": ["logprob", "logit_diff"],
        "target": list(TARGET),
        "foil": list(APART),
        "progress": False,
    }
    one, other = (
        llama.activation_patching(
            CLEAN, CORRUPTED, ["mlp", "resid_post"], positions="each", engine=e, **options
        )
        for e in ("fanout", engine)
    )
    close(one.raw, other.raw, llama)


def test_probability_is_the_product_of_greedy_steps(llama):
    """What the model says step by step, each step's probability from a pass of its own."""
    ids, said, product = list(CLEAN), [], 1.0
    for _ in range(3):
        row = metrics.softmax(np.array(llama.net(mx.array([ids]))[0, -1]))
        said.append(int(row.argmax()))
        product *= row[said[-1]]
        ids.append(said[-1])
    found = llama.activation_patching(
        CLEAN, CORRUPTED, layers=LAYER, target=said, metric="prob", progress=False
    )
    assert found.clean == pytest.approx(product, rel=1e-4) and found.target.clean_prob == found.clean


def test_one_token_as_a_list_is_that_token_to_the_bit(llama):
    found = [
        llama.activation_patching(
            CLEAN, CORRUPTED, positions="each", target=t, foil=f, metric="logit_diff", progress=False
        )
        for t, f in ((5, 9), ([5], (9,)))
    ]
    assert found[0].raw.tobytes() == found[1].raw.tobytes() and found[0].notes == found[1].notes


def test_several_right_answers_are_added(llama):
    def prob(**asked):
        return llama.activation_patching(CLEAN, CORRUPTED, "mlp", metric="prob", progress=False, **asked).raw

    each = [prob(target=answer) for answer in (list(TARGET), list(APART), 20)]
    np.testing.assert_allclose(prob(answers=[list(TARGET), list(APART), 20]), sum(each), rtol=1e-5)
    np.testing.assert_allclose(prob(answers=[20]), each[2], rtol=1e-12)


def test_samples_of_noise_are_averaged_as_products(llama):
    noise = GaussianNoise(subject=[2, 3], samples=3)
    found = llama.activation_patching(CLEAN, noise, "mlp", metric="prob", target=list(TARGET), progress=False)
    again = llama.causal_trace(
        CLEAN, [2, 3], samples=3, target=list(TARGET), positions="last", progress=False
    )
    assert found.corrupted == pytest.approx(again.low_score, rel=1e-4)
    assert found.clean == pytest.approx(again.high_score, rel=1e-4)


def test_sets_give_the_numbers_of_their_pairs_alone(llama):
    """Answers of one, two and three tokens, one context and two, in one set."""
    other = [[*CLEAN[:-1], 30], [*CORRUPTED[:-1], 30]]
    clean, corrupted = [CLEAN, CORRUPTED, other[0]], [CORRUPTED, CLEAN, other[1]]
    targets, foils = [list(TARGET), 8, list(TARGET)], [list(APART), 20, list(SHARED)]
    options = {
        "component": "resid_post",
        "positions": [3],
        "metric": ["logprob", "logit_diff"],
        "progress": False,
    }
    many = llama.activation_patching(clean, corrupted, target=targets, foil=foils, **options)
    for i, own in enumerate(zip(clean, corrupted, targets, foils, strict=True)):
        one = llama.activation_patching(*own[:2], target=own[2], foil=own[3], **options)
        close(many.per_pair.raw[i] if hasattr(many.per_pair, "raw") else many.singles[i].raw, one.raw, llama)


def test_effects_of_whole_answers_are_those_of_patching(llama):
    asked = {"target": list(TARGET), "foil": list(APART), "metric": "logit_diff", "progress": False}
    effects = llama.causal_effects(CORRUPTED, CLEAN, **asked)
    direct = llama.activation_patching(CLEAN, CORRUPTED, "resid_post", **asked)
    noised = llama.activation_patching(CLEAN, CORRUPTED, "resid_post", direction="noise", **asked)
    close(effects.direct, direct.raw, llama)
    close(effects.indirect, effects.source_value - noised.raw, llama)
    assert effects.source_answer.tokens == TARGET and any("log-probability" in note for note in effects.notes)


def test_rank_is_that_of_the_first_token_that_differs(llama):
    def rank(**asked):
        return llama.activation_patching(
            CLEAN, CORRUPTED, metric=["rank", "logprob"], progress=False, **asked
        ).clean["rank"]

    after = np.array(llama.net(mx.array([[*CLEAN, 5, 6]]))[0])
    for foil, place, token in ((SHARED, 2, 7), ((5,), 1, 6), ((9,), 0, 5), (None, 0, 5)):
        asked = {} if foil is None else {"foil": list(foil)}
        row = after[len(CLEAN) - 1 + place]
        assert rank(target=list(TARGET), **asked) == (row > row[token]).sum()


def test_functions_see_what_they_see_without_an_answer(llama):
    shapes = []

    @metrics.every_position
    def every(x):
        shapes.append(x.shape[1:])
        return x[:, 3].max(-1)

    def first(x):
        return x[:, 20] - x[:, 21]

    asked = {"component": "mlp", "metric": [every, first, "kl"], "progress": False}
    whole = llama.activation_patching(CLEAN, CORRUPTED, target=list(TARGET), foil=list(APART), **asked)
    plain = llama.activation_patching(CLEAN, CORRUPTED, **asked)
    np.testing.assert_allclose(whole.raw, plain.raw, atol=5e-5)
    assert set(shapes) == {(len(CLEAN), llama.vocab_size)}


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({"metric": "logit"}, InputError, "several tokens"),
        ({"metric": "rank", "target": None, "answers": [5, 6]}, InputError, "several answers"),
        ({"metric": "logprob_mean", "target": None, "answers": [5, [6, 7]]}, InputError, "per token"),
        ({"metric": "logit_diff", "foil": [5, 6]}, EffectError, "beginning of the other"),
        ({"metric": "prob_diff", "foil": [5, 6, 7, 8]}, EffectError, "beginning of the other"),
        ({"metric": "logit_diff", "foil": list(TARGET)}, EffectError, "both are"),
        ({"metric": ["prob", "prob"]}, InputError, "twice"),
        ({"metric": "nothing"}, InputError, "no metric"),
    ],
)
def test_what_means_nothing_is_refused(llama, asked, error, says):
    with pytest.raises(error, match=says):
        llama.activation_patching(CLEAN, CORRUPTED, progress=False, **{"target": list(TARGET), **asked})


def test_the_words_say_that_logits_are_log_probabilities(llama, tmp_path):
    found = llama.activation_patching(
        CLEAN, CORRUPTED, target=list(TARGET), foil=list(APART), metric=["logit_diff", "kl"], progress=False
    )
    assert "log-probability difference" in repr(found) and "scored whole" in repr(found)
    assert found.plot().axes[0].get_ylabel() == "recovery of log-probability difference (%)"
    again = type(found).load(found.save(tmp_path / "one"))
    assert again.target == found.target and again.settings == found.settings
    with pytest.raises(InputError, match="no one token"):
        int(again.target)


def test_memory_counts_the_positions_that_are_read(llama):
    bytes_of = [
        llama.activation_patching(CLEAN, CORRUPTED, target=target, metric="logprob", plan_only=True).bytes
        for target in (5, [5, 6, 7, 8, 9, 10])
    ]
    assert bytes_of[1] > bytes_of[0]
    few = {
        "target": list(TARGET),
        "foil": list(APART),
        "metric": "logit_diff",
        "positions": "each",
        "progress": False,
    }
    least = llama.activation_patching(CLEAN, CORRUPTED, plan_only=True, **few).bytes
    whole = llama.activation_patching(CLEAN, CORRUPTED, **few)
    for part in (0.9, 0.7):
        try:
            close(
                llama.activation_patching(CLEAN, CORRUPTED, max_memory=int(part * least), **few).raw,
                whole.raw,
                llama,
            )
        except InputError as error:
            assert "max_memory" in str(error)


def test_a_broken_run_is_named():
    window = np.full((2, 3, 4), np.nan)
    with pytest.raises(InputError, match="NaN"):
        answer_logprob(window, (0, 1))
