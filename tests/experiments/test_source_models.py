"""Patching between models: the source run is another model's, and each number is that of passes by hand."""

from __future__ import annotations

import copy

import mlx.core as mx
import mlx.nn as nn
import models
import numpy as np
import pytest
from adapter_folders import save_adapters
from mlx.utils import tree_map

from mlxtrace import GaussianNoise, InterpretableModel, PatchingResult, errors, metrics, prompts
from mlxtrace.experiments.source_models import how_read
from mlxtrace.laws.by_hand import ModelByHand
from mlxtrace.laws.model_under_test import ModelUnderTest
from mlxtrace.laws.pass_by_hand import Write

CLEAN, OTHER = [3, 17, 5, 90, 41, 8, 77], [3, 17, 60, 90, 41, 8, 77]


def tuned(net: nn.Module, size: float = 0.3) -> InterpretableModel:
    """Another model: the same with noise on all of its weights."""
    net = copy.deepcopy(net)
    key = iter(range(10_000))
    noisy = lambda x: x + size * x.std() * mx.random.normal(x.shape, key=mx.random.key(next(key)))  # noqa: E731
    net.update(tree_map(noisy, net.parameters()))
    return InterpretableModel(net)


@pytest.fixture(scope="module")
def base():
    return InterpretableModel(models.make("llama"))


@pytest.fixture(scope="module")
def other(base):
    return tuned(base.net)


def by_hand(model) -> ModelByHand:
    return ModelUnderTest(model).by_hand


def raw_by_hand(base, other, clean, corrupted, direction, component, layers, at, token, heads=None):
    """Its logit with each layer patched, in plain passes of the two modules."""
    source_ids, ids = (clean, corrupted) if direction == "denoise" else (corrupted, clean)
    names = [(component, layer) for layer in layers]
    _, kept = by_hand(other).run(source_ids, keep=names)
    found = []
    for name in names:
        logits, _ = by_hand(base).run(ids, [Write(*name, at, kept[name], at, heads)])
        found.append(logits[-1, token])
    return np.array(found)


@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize("engine", ["fanout", "flat", "loop"])
@pytest.mark.parametrize("corrupted", [OTHER, CLEAN], ids=["two prompts", "one prompt"])
def test_engines_give_what_passes_by_hand_give(base, other, direction, engine, corrupted):
    for component, at in (("mlp", [1]), ("resid_post", [0, 6]), ("attn", list(range(7)))):
        asked = {"component": component, "direction": direction, "engine": engine, "positions": at}
        result = base.activation_patching(
            CLEAN, corrupted, metric="logit", target=11, foil=12, source_model=other, progress=False, **asked
        )
        right = raw_by_hand(base, other, CLEAN, corrupted, direction, component, range(3), at, 11)
        assert np.abs(result.raw - right).max() < 1e-4
        runs = (
            [(other, CLEAN), (base, corrupted)]
            if direction == "denoise"
            else [(base, CLEAN), (other, corrupted)]
        )
        for value, (model, ids) in zip((result.clean, result.corrupted), runs, strict=True):
            assert abs(value - by_hand(model).run(ids)[0][-1, 11]) < 1e-4


@pytest.mark.parametrize("component", ["head", "q", "k", "v", "pattern", "neuron"])
def test_heads_and_neurons(base, other, component):
    which = {"neurons" if component == "neuron" else "heads": [1]}
    result = base.activation_patching(
        CLEAN, component=component, metric="logit", target=11, source_model=other, positions=[4, 6],
        progress=False, **which,
    )  # fmt: skip
    right = raw_by_hand(base, other, CLEAN, CLEAN, "denoise", component, range(3), [4, 6], 11, [1])
    assert np.abs(result.raw - right).max() < 1e-4


HEAVY = (
    "gemma3_text",
    "gpt2",
    "mixtral",
    "qwen3_next",
    "gpt_neox",
    "gemma4_text",
    "nanbeige",
    "jamba",
    "olmo2",
)


@pytest.mark.parametrize("name", ["mamba", *(pytest.param(name, marks=pytest.mark.heavy) for name in HEAVY)])
def test_other_architectures(name):
    base = InterpretableModel(models.make(name))
    other = tuned(base.net, 0.1)
    result = base.activation_patching(
        CLEAN,
        component="resid_post",
        metric="logit",
        target=11,
        source_model=other,
        positions="each",
        progress=False,
    )
    for at in (0, 3, 6):
        right = raw_by_hand(
            base, other, CLEAN, CLEAN, "denoise", "resid_post", range(base.n_layers), [at], 11
        )
        assert np.abs(result.raw[:, at] - right).max() < 2e-3 * max(1, np.abs(right).max())


def test_the_whole_stream_is_the_other_models_run(base, other):
    """All positions of the last layer's output: norm and head are this model's."""
    result = base.activation_patching(
        CLEAN, component="resid_post", metric="logit", target=11, source_model=other
    )
    last = by_hand(other).run(CLEAN, keep=[("resid_post", 2)])[1]["resid_post", 2]
    logits = base.net.lm_head(base.net.model.norm(mx.array(last[:, -1])))
    assert (
        abs(result[2] / 100 * (result.clean - result.corrupted) + result.corrupted - float(logits[0, 11]))
        < 1e-4
    )
    assert result.raw[2] == pytest.approx(float(logits[0, 11]), abs=1e-4)


def test_memory_that_holds_a_part_of_it(base, other):
    asked = {"component": ["mlp", "resid_pre"], "metric": "logit", "target": 11, "positions": "each"}
    whole = base.activation_patching(CLEAN, source_model=other, progress=False, **asked)
    bytes_ = base.activation_patching(CLEAN, source_model=other, plan_only=True, **asked).bytes
    with pytest.raises(errors.InputError, match="max_memory"):
        base.activation_patching(CLEAN, source_model=other, max_memory=1000, **asked)
    for share in (2, 4):
        parts = base.activation_patching(
            CLEAN, source_model=other, max_memory=bytes_ // share, progress=False, **asked
        )
        assert parts.plan.passes > whole.plan.passes
        assert np.abs(parts.raw - whole.raw).max() < 1e-4


def test_no_cell_is_null_but_those_that_reach_no_logit(base, other):
    asked = {"component": "resid_post", "metric": "logit", "target": 11, "positions": "each"}
    plan = base.activation_patching(CLEAN, OTHER, source_model=other, plan_only=True, **asked)
    assert plan.null_cells == 6  # of the last layer, all but the last position
    assert base.activation_patching(CLEAN, OTHER, plan_only=True, **asked).null_cells == 10


def test_a_model_as_its_own_source_changes_nothing(base):
    for direction in ("denoise", "noise"):
        asked = {"component": "mlp", "metric": "logit", "direction": direction, "progress": False}
        alone = base.activation_patching(CLEAN, OTHER, **asked)
        for same in (base, InterpretableModel(base.net)):  # other wrappers of the module itself
            found = base.activation_patching(CLEAN, OTHER, source_model=same, **asked)
            assert np.array_equal(found.raw, alone.raw) and found.source_model is None
            assert str(found) == str(alone).replace(f"{alone.plan.elapsed}", "")
    with pytest.raises(errors.EffectError, match="same tokens"):
        base.activation_patching(CLEAN, CLEAN, source_model=base)


def test_sets_are_their_pairs(base, other):
    cleans = [CLEAN, [4, *CLEAN[1:]], CLEAN[:5]]
    for corrupteds in (cleans, [OTHER, [4, *OTHER[1:]], OTHER[:5]]):
        for direction in ("denoise", "noise"):
            asked = {"metric": "logit", "target": 11, "foil": 12, "direction": direction, "progress": False}
            result = base.activation_patching(cleans, corrupteds, source_model=other, **asked)
            assert result.source_model == result.single(0).source_model == "another llama"
            for i, (clean, corrupted) in enumerate(zip(cleans, corrupteds, strict=True)):
                alone = base.activation_patching(clean, corrupted, source_model=other, **asked)
                assert np.abs(result.per_pair[i] - alone.raw).max() < 1e-4
                assert abs(result.single(i).clean - alone.clean) < 1e-4
    pairs = [prompts.Pair(clean, id=str(i)) for i, clean in enumerate(cleans)]
    again = base.activation_patching(pairs, source_model=other, **asked)
    one = base.activation_patching(cleans, source_model=other, **asked)
    assert np.array_equal(again.per_pair, one.per_pair)


def test_answers_are_those_of_either_models_run(base, other):
    found = {
        "base": int(by_hand(base).run(CLEAN)[0][-1].argmax()),
        "other": int(by_hand(other).run(CLEAN)[0][-1].argmax()),
    }
    assert found["base"] != found["other"]
    for direction, names in (("denoise", ["other", "base"]), ("noise", ["base", "other"])):
        for given in (CLEAN, [CLEAN, OTHER]):
            result = base.activation_patching(
                given, source_model=other, direction=direction, metric="logit_diff", progress=False
            )
            single = result.single(0) if given is not CLEAN else result
            assert [single.target.token, single.foil.token] == [found[name] for name in names]
            assert single.target.clean_prob > single.target.corrupted_prob


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_noise_is_on_the_corrupted_runs_model(base, direction):
    """Its scale is that of the table of the model that is corrupted."""
    other = tuned(base.net)
    other.net.model.embed_tokens.weight = other.net.model.embed_tokens.weight * 3
    noise = GaussianNoise([2, 3], level="s2", samples=3)
    result = base.activation_patching(
        CLEAN,
        noise,
        metric="logit",
        target=11,
        source_model=other,
        direction=direction,
        positions=[2, 6],
        progress=False,
    )
    corrupted, clean = (base, other) if direction == "denoise" else (other, base)
    std = float(np.array(corrupted.net.model.embed_tokens.weight).std(ddof=1))
    draws = np.random.RandomState(1).randn(3, 2, 64) * 2 * std
    table = np.array(corrupted.net.model.embed_tokens.weight)[CLEAN]
    values = []
    for draw in draws:
        x = table.copy()
        x[2:4] += draw.astype(np.float32)
        with corrupted.trace(CLEAN, interventions={"embed": lambda _, x=x: mx.array(x)[None]}) as trace:
            pass
        values.append(float(trace.output[0, -1, 11]))
    assert result.corrupted == pytest.approx(np.mean(values), abs=1e-3)
    assert result.clean == pytest.approx(by_hand(clean).run(CLEAN)[0][-1, 11], abs=1e-4)
    assert (
        f"the noise is on the embeddings of {'another llama' if direction == 'noise' else 'llama'}"
        in result.notes
    )


def test_what_it_says_of_itself(base, other, tmp_path):
    result = base.activation_patching(CLEAN, OTHER, metric="kl", source_model=other, progress=False)
    assert result.source_model == "another llama" and result.model == "llama"
    text = str(result)
    assert "Restoring the MLP output with that of another llama (" in text
    assert "run by another llama: <3>" in text.splitlines()[1] and "run by llama: <3>" in text.splitlines()[2]
    assert "with that of another llama" in result._repr_html_()
    again = PatchingResult.load(result.save(tmp_path / "x.npz"))
    assert again.source_model == "another llama" and str(again).splitlines()[:3] == text.splitlines()[:3]
    assert '"source_model": "another llama"' in result.to_json(tmp_path / "x.json").read_text()
    figure = result.plot()
    drawn = " ".join(" ".join(text.get_text() for text in figure.texts).split())
    assert "with that of another llama" in drawn and "clean: run by another llama: <3>" in drawn
    noised = base.activation_patching(
        CLEAN, OTHER, metric="kl", source_model=other, direction="noise", progress=False
    )
    assert "run by llama: <3>" in str(noised).splitlines()[1]
    assert "Corrupting the MLP output with that of another llama" in str(noised)
    alone = base.activation_patching(CLEAN, OTHER, metric="kl", progress=False)
    assert alone.source_model is None and "run by" not in str(alone)
    assert "source_model" in str((result - alone).names)


def test_a_set_of_two_sources_is_none(base, other):
    from mlxtrace.results.patching_set import PatchingSet

    one = base.activation_patching(CLEAN, OTHER, metric="kl", source_model=other, progress=False)
    two = base.activation_patching(CLEAN, OTHER, metric="kl", progress=False)
    with pytest.raises(errors.InputError, match="source_model"):
        PatchingSet([one, two], ["a", "b"])


# ---- what a user has: adapters, 4 bits, another dtype


def test_base_against_lora_and_4_bits(llama_folder, tmp_path):
    base = InterpretableModel(llama_folder)
    net = InterpretableModel(llama_folder).net
    lora = InterpretableModel(llama_folder, adapter_path=save_adapters(tmp_path, net))
    packed = InterpretableModel(models.make("llama", quantize=4, vocab_size=base.vocab_size), base.tokenizer)
    text = "Paris is in France"
    for source in (lora, packed):
        for model, given in ((base, source), (source, base)):
            result = model.activation_patching(text, metric="kl", component="resid_post", source_model=given)
            assert result.source_model == given.name and result.recovery.shape == (3,)
            ids = base.ids(text)
            _, kept = by_hand(given).run(ids, keep=[("resid_post", 1)])
            logits, _ = by_hand(model).run(
                ids, [Write("resid_post", 1, [*range(len(ids))], kept["resid_post", 1], [*range(len(ids))])]
            )
            clean = by_hand(given).run(ids)[0][-1]
            kl = metrics.bind("kl", target=0, foil=None, clean_logits=clean)(logits[-1][None])
            assert result.raw[1] == pytest.approx(float(kl[0]), abs=1e-4)
    assert lora.name in str(base.activation_patching(text, metric="kl", source_model=lora, progress=False))


def test_another_dtype_is_rounded_and_says_so(base):
    half = InterpretableModel(copy.deepcopy(base.net), dtype="bfloat16")
    up = base.activation_patching(CLEAN, metric="logit", target=11, source_model=half, progress=False)
    assert up.source_model == "llama (bfloat16)" and not any("rounded" in note for note in up.notes)
    down = half.activation_patching(CLEAN, metric="logit", target=11, source_model=base, progress=False)
    assert "the source model's activations are rounded to bfloat16" in down.notes


def test_a_run_into_a_folder_knows_the_source_by_its_weights(base, other, tmp_path):
    pairs = [prompts.Pair(CLEAN, OTHER, 11), prompts.Pair([4, *CLEAN[1:]], [4, *OTHER[1:]], 11)]
    asked = {"metric": "logit", "progress": False}
    result = prompts.run(base, pairs, out=tmp_path, source_model=other, **asked)
    right = base.activation_patching(pairs, source_model=other, **asked)
    assert np.abs(result.per_pair - right.per_pair).max() < 1e-5 and result.source_model == "another llama"
    assert prompts.averages(tmp_path).source_model == "another llama"
    prompts.run(base, pairs, out=tmp_path, source_model=other, **asked)
    for source in (None, tuned(base.net, 0.2)):
        with pytest.raises(errors.InputError, match="source_model"):
            prompts.run(base, pairs, out=tmp_path, source_model=source, **asked)


# ---- what is refused


def refused(base, source, text, clean=CLEAN, **options):
    with pytest.raises(errors.InputError, match=text):
        base.activation_patching(clean, source_model=source, **options)


def test_models_that_do_not_fit(base):
    def made(**changes):
        return InterpretableModel(models.make("llama", **changes))

    refused(base, made(num_hidden_layers=2), "2 layers, llama 3")
    refused(base, made(hidden_size=32), "32 as its width")
    refused(base, made(vocab_size=128), "128 logits")
    heads = made(num_attention_heads=2, num_key_value_heads=2)
    refused(base, heads, r"layers.0.head is \[1, 8, 2, 32\] there and \[1, 8, 4, 16\] here", component="head")
    assert base.activation_patching(
        CLEAN, source_model=heads, metric="logit", target=11, progress=False
    ).raw.shape
    refused(base, made(intermediate_size=64), "layers.0.neuron is", component="neuron")
    refused(base, made(num_key_value_heads=4), "layers.0.k is", component="k")
    for wrong in ("demo", base.net, 3, [base]):
        refused(base, wrong, "source_model is an InterpretableModel")
    mamba = InterpretableModel(models.make("mamba", hidden_size=64))
    refused(base, mamba, "source_model: layers.0.mlp does not exist")


def test_tokenizers_that_do_not_fit(llama_folder, gpt2_folder, base):
    model = InterpretableModel(llama_folder)

    class Shifted:
        """The tokenizer, two of whose tokens have changed places."""

        def __init__(self, of, a, b):
            self.of, self.swap = of, {a: b, b: a}

        def __getattr__(self, name):
            return getattr(self.of, name)

        def decode(self, ids, **options):
            return self.of.decode([self.swap.get(int(i), int(i)) for i in ids], **options)

        def get_vocab(self):
            return {text: self.swap.get(i, i) for text, i in self.of.get_vocab().items()}

    text = "Paris is in France"
    ids = model.ids(text)
    net = tuned(model.net).net
    for swapped in ((ids[0], ids[1]), (5, 6)):  # of the prompt, and of an answer that may be
        refused(
            model,
            InterpretableModel(net, Shifted(model.tokenizer, *swapped)),
            "reads other tokens: id",
            clean=text,
        )
    without = InterpretableModel(net)
    assert model.activation_patching(
        text, source_model=without, metric="logit", target=5, progress=False
    ).raw.shape


def test_prompts_that_the_other_model_has_no_room_for(base):
    short = tuned(models.make("gpt2"))
    long = InterpretableModel(models.make("gpt2", n_positions=160))
    with pytest.raises(errors.TokenError, match="128 positions"):
        long.activation_patching([1] * 140, source_model=short, metric="logit", target=3)


def test_what_reading_is_told(base, other):
    assert how_read(base, base, "denoise") == {}
    assert how_read(base, other, "denoise") == {"same": True, "noised_by": base}
    assert how_read(base, other, "noise") == {"same": True, "noised_by": other}


# ---- whole answers, metrics of every position, other experiments


@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize("corrupted", [OTHER, CLEAN], ids=["two prompts", "one prompt"])
def test_whole_answers(base, other, direction, corrupted):
    asked = {"metric": "logprob", "component": "mlp", "direction": direction, "progress": False}
    answers = {"target": [11, 12, 13], "foil": [14, 15]}
    result = base.activation_patching(
        CLEAN, corrupted, positions=[2, 6], source_model=other, **asked, **answers
    )
    tail, ids = [11, 12], (corrupted, CLEAN) if direction == "denoise" else (CLEAN, corrupted)
    for layer in range(3):
        _, kept = by_hand(other).run([*ids[1], *tail], keep=[("mlp", layer)])
        write = Write("mlp", layer, [2, 6], kept["mlp", layer], [2, 6])
        logits, _ = by_hand(base).run([*ids[0], *tail], [write])
        log_probs = metrics.log_softmax(logits[-3:])
        assert result.raw[layer] == pytest.approx(
            sum(log_probs[i, t] for i, t in enumerate([11, 12, 13])), abs=1e-4
        )


def test_metrics_of_every_position(base, other):
    @metrics.every_position
    def of_one_token(logits):
        return logits[..., 11].sum(-1)

    result = base.activation_patching(
        CLEAN, source_model=other, metric=of_one_token, component="resid_post", positions=[2], progress=False
    )
    for layer in range(3):
        _, kept = by_hand(other).run(CLEAN, keep=[("resid_post", layer)])
        logits, _ = by_hand(base).run(
            CLEAN, [Write("resid_post", layer, [2], kept["resid_post", layer], [2])]
        )
        assert result.raw[layer] == pytest.approx(logits[:, 11].sum(), abs=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        "attribution_patching",
        "path_patching",
        "causal_effects",
        "noising_window",
        "screen",
        "edges",
        "circuit",
    ],
)
def test_other_experiments_do_not_pass_over_it(base, other, name):
    with pytest.raises(TypeError, match=f"{name}.* unexpected keyword argument 'source_model'"):
        getattr(base, name)(CLEAN, OTHER, source_model=other)
    with pytest.raises((TypeError, errors.InputError), match="source_model"):
        prompts.run(base, [prompts.Pair(CLEAN, OTHER)], "causal_effects", "unused", source_model=other)
