"""The logit lens: norm and head by hand on every stream, one answer, and clear refusals."""

import chat_tokenizers
import mlx.core as mx
import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel
from mlxtrace.errors import InputError, PositionError, TokenError, UnsupportedError

IDS = [7, 31, 32, 90, 15, 120]


def probabilities(logits):
    x = np.array(logits.astype(mx.float32), dtype=np.float64)
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


@pytest.mark.parametrize("component", ["resid_pre", "resid_mid", "resid_post", "attn", "mlp"])
@pytest.mark.parametrize("changes", [{}, {"quantize": 4}], ids=["float", "quantized"])
def test_it_is_norm_and_head_by_hand(component, changes):
    net = models.make("llama", **changes)
    model = InterpretableModel(net)
    lens = model.logit_lens(IDS, target=5, component=component, k=3)
    assert lens.ids.shape == (3, 6, 3) and (lens.answer_id, lens.answer) == (5, "<5>")
    for layer in range(3):
        stream = model.run_with_cache(IDS)[1][f"layers.{layer}.{component}"]
        right = probabilities(net.lm_head(net.model.norm(stream)))[0]
        np.testing.assert_allclose(lens.prob[layer], right[:, 5], rtol=1e-4)
        np.testing.assert_allclose(lens.probabilities[layer], -np.sort(-right, -1)[:, :3], rtol=1e-4)
        assert (lens.rank[layer] == (right > right[:, [5]]).sum(-1)).all()
    assert ("normed by itself" in " ".join(lens.notes)) == (component in ("attn", "mlp"))


def test_the_last_layer_says_what_the_model_says():
    model = InterpretableModel(models.make("gemma2"))  # which caps its logits
    with model.trace(IDS) as trace:
        pass
    right = probabilities(trace.output)[0]
    lens = model.logit_lens(IDS)
    assert lens.answer_id == right[-1].argmax() and lens.final == pytest.approx(right[-1].max(), rel=1e-4)
    np.testing.assert_allclose(lens.prob[-1], right[:, lens.answer_id], rtol=1e-4)
    assert lens.ids[-1, :, 0].tolist() == right.argmax(-1).tolist()


def test_layers_and_positions_are_those_asked_for(llama):
    whole = llama.logit_lens(IDS, target=9)
    some = llama.logit_lens(IDS, target=9, layers=[2, 0], positions=[-1, 1])
    assert (some.layers, some.positions) == ([2, 0], [5, 1])
    np.testing.assert_allclose(some.prob, whole.prob[[2, 0]][:, [5, 1]], rtol=1e-4)
    assert llama.logit_lens(IDS, layers=1, positions="last").prob.shape == (1, 1)
    assert llama.logit_lens(IDS, positions=None).positions == list(range(6))


def test_long_prompts_in_little_memory(llama):
    ids = [(3 + 7 * i) % 160 for i in range(200)]
    small = llama.logit_lens(ids, target=9, k=2, max_memory=100_000)
    np.testing.assert_allclose(small.prob, llama.logit_lens(ids, target=9, k=2).prob, rtol=1e-4)
    assert "the last" in repr(small) and "of 200 positions" in repr(small) and len(repr(small)) < 2000
    assert small._repr_html_().count("<td") == 3 * 60


@pytest.mark.parametrize(
    "options, error, said",
    [
        ({"target": [5, 6]}, TokenError, "2 tokens"),
        ({"target": 999}, TokenError, "999"),
        ({"component": "head"}, InputError, "as wide as"),
        ({"component": ["attn", "mlp"]}, InputError, "one at a time"),
        ({"layers": 3}, PositionError, "layer 3"),
        ({"positions": 6}, PositionError, "outside"),
        ({"positions": "subject"}, Exception, "subject"),
        ({"k": 0}, InputError, "k is a whole number"),
        ({"k": 161}, InputError, "from 1 to 160"),
        ({"max_memory": -1}, InputError, "max_memory"),
    ],
)
def test_what_means_nothing_is_refused(llama, options, error, said):
    with pytest.raises(error, match=said):
        llama.logit_lens(IDS, **options)


def test_several_prompts_are_refused(llama):
    for several in ([IDS, IDS], mx.array([IDS, IDS]), ["a", "b"]):
        with pytest.raises(TokenError, match="2 prompts"):
            llama.logit_lens(several)


@pytest.mark.parametrize("name", ["nanochat"])
def test_a_model_whose_norm_is_not_found_is_refused_with_the_reason(name):
    import more_models

    with pytest.raises(UnsupportedError, match="no logit lens"):
        InterpretableModel(more_models.make(name)).logit_lens(IDS)


def test_a_chat_is_one_prompt_and_its_turns_are_positions():
    model = chat_tokenizers.model_of("chatml")
    chat = [chat_tokenizers.user("Where is the Eiffel Tower?")]
    lens = model.logit_lens(chat, positions="user[0]")
    assert (
        lens.positions == list(model.prompt(chat).regions["user[0]"])
        and lens.prompt == model.prompt(chat).text
    )
    with pytest.raises(TokenError, match="2 prompts"):
        model.logit_lens([chat, chat])
