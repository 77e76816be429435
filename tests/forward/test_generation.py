"""Generating: mlx-lm's own text without interventions; with them what whole passes, run anew for each token, give."""

from __future__ import annotations

import pickle
import threading

import mlx.core as mx
import mlx_lm
import models
import numpy as np
import pytest
from fake_ranks import on_ranks
from mlx.utils import tree_map_with_path
from mlx_lm.tuner.utils import linear_to_lora_layers

from mlxtrace import InterpretableModel, errors
from mlxtrace import interventions as iv
from mlxtrace.forward import generation

IDS = [3, 17, 5, 90, 44, 8, 21]
T, N = len(IDS), 6
PROMPT = "The Eiffel Tower is in the city of"


@pytest.fixture(scope="module")
def demo():
    return InterpretableModel("demo")


def log_softmax(row):
    x = np.array(row.astype(mx.float32), dtype=np.float64)
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


def anew(model, tokens, edits):
    """Log-probabilities of each of the tokens, by whole passes without a cache."""
    found = []
    for n, token in enumerate(tokens):
        with model.trace([*IDS, *tokens[:n]], edits, cache=False) as run:
            pass
        found.append(log_softmax(run.output[0, -1])[token])
        assert int(run.output[0, -1].argmax()) == token
    return np.array(found)


def test_without_interventions_it_is_mlx_lms(demo):
    text = demo.generate(PROMPT, max_tokens=8)
    assert text == mlx_lm.generate(demo.net, demo.tokenizer, PROMPT, max_tokens=8) and isinstance(text, str)
    plain = list(mlx_lm.stream_generate(demo.net, demo.tokenizer, PROMPT, max_tokens=8))
    assert text.tokens == [r.token for r in plain] and text.finish_reason == plain[-1].finish_reason
    assert np.allclose(text.logprobs, [r.logprobs[r.token].item() for r in plain], atol=1e-3)  # MLX's sums
    assert text.prompt.text == PROMPT
    for ours, theirs in zip(demo.generate(PROMPT, max_tokens=8, stream=True), plain, strict=True):
        assert ours.text == theirs.text and mx.array_equal(ours.logprobs, theirs.logprobs)


SITES = ["embed", "layers.1.resid_pre", "layers.1.q", "layers.1.k", "layers.1.v", "layers.1.head", "layers.0.attn",
         "layers.1.resid_mid", "layers.0.mlp", "layers.1", "model.layers.0.mlp.gate_proj", "norm", "logits",
         "layers.0.self_attn.o_proj.input"]  # fmt: skip


@pytest.mark.parametrize("site", SITES)
def test_every_token_is_that_of_whole_passes(llama, site):
    text = llama.generate(IDS, N, {site: iv.scale(1.7)})
    assert len(text.tokens) == N and text.finish_reason == "length"
    assert np.abs(text.logprobs - anew(llama, text.tokens, {site: iv.scale(1.7)})).max() < 5e-5


def test_where_the_interventions_act(llama):
    edit = {"layers.1.mlp": lambda x: x * 3}
    texts = {where: llama.generate(IDS, N, edit, where) for where in ("all", "prompt", "new")}
    for where, start, stop in (("prompt", 0, T), ("new", T, None)):

        def part(x, start=start, stop=stop):
            y = mx.array(x)
            y[:, start:stop] = y[:, start:stop] * 3
            return y

        right = anew(llama, texts[where].tokens, {"layers.1.mlp": part})
        assert np.abs(texts[where].logprobs - right).max() < 5e-5
    plain = llama.generate(IDS, N)
    assert texts["new"].logprobs[0] == pytest.approx(
        plain.logprobs[0], abs=1e-6
    )  # the prompt gives the first token
    assert abs(texts["prompt"].logprobs[0] - plain.logprobs[0]) > 1e-3
    assert texts["all"].logprobs[0] == pytest.approx(texts["prompt"].logprobs[0], abs=1e-6)
    assert len({tuple(np.round(text.logprobs, 3)) for text in (plain, *texts.values())}) == 4


@pytest.mark.parametrize(
    ("edit", "whole"),
    [
        (iv.add_vector(2.0, -2), lambda n: iv.add_vector(2.0, T - 2)),
        (iv.zero_at([0, T + 1]), lambda n: iv.zero_at([p for p in (0, T + 1) if p < n])),
        (iv.zero_at(slice(3, None)), lambda n: iv.zero_at(slice(3, None))),
        (iv.zero_at(range(T - 1, T + 2)), lambda n: iv.zero_at(range(T - 1, min(T + 2, n)))),
        (iv.compose(iv.scale(1.5), iv.zero_at(T)), lambda n: iv.compose(iv.scale(1.5), *[iv.zero_at(T)][: n - T])),
    ],
)  # fmt: skip
def test_positions_count_from_the_prompts_start(llama, edit, whole):
    text = llama.generate(IDS, N, {"layers.0.mlp": edit})
    right = anew(llama, text.tokens, {"layers.0.mlp": lambda x: whole(x.shape[1])(x)})
    assert np.abs(text.logprobs - right).max() < 5e-5


@pytest.mark.parametrize("make", [
    lambda: models.make("llama", 4), lambda: models.make("jamba"), lambda: models.make("mamba"),
    lambda: models.make("gemma3_text"), lambda: models.make("mixtral"),
])  # fmt: skip
def test_other_models(make):
    model = InterpretableModel(make())
    edits = {"layers.1": iv.add_vector(0.3), "layers.0": iv.zero_at(2)}
    text = model.generate(IDS, 3, edits)
    assert np.abs(text.logprobs - anew(model, text.tokens, edits)).max() < 2e-4


def test_a_cache_that_turns_round(gpt2):
    """As soon as more tokens are there than it keeps, old ones are gone: an empty edit must see the same."""
    for size, ids in ((T + 1, IDS), (5, IDS[:4])):
        plain = gpt2.generate(ids, 12, max_kv_size=size)
        same = gpt2.generate(ids, 12, {"layers.1": lambda x: x}, max_kv_size=size)
        assert same.tokens == plain.tokens and np.abs(same.logprobs - plain.logprobs).max() < 1e-5
        assert np.abs(plain.logprobs - gpt2.generate(ids, 12).logprobs).max() > 1e-3
    with pytest.raises(errors.UnsupportedError, match="max_kv_size"):
        gpt2.generate(IDS, N, {"layers.1": iv.scale(2)}, max_kv_size=5)
    gpt2.generate(IDS, N, {"layers.1": iv.scale(2)}, "new", max_kv_size=5)


def test_samplers_processors_and_stop_tokens(demo):
    late = [lambda tokens, logits: logits - 1e9 * (mx.arange(logits.shape[-1]) < 5)]
    options = {"sampler": mx.random.categorical, "logits_processors": late}
    mx.random.seed(3)
    text = demo.generate(PROMPT, 10, **options)
    mx.random.seed(3)
    assert text == mlx_lm.generate(demo.net, demo.tokenizer, PROMPT, max_tokens=10, **options)
    mx.random.seed(3)
    same = demo.generate(PROMPT, 10, {"layers.3": lambda x: x}, **options)
    assert same.tokens == text.tokens and min(text.tokens) >= 5 and text.finish_reason == "length"
    stopped = demo.generate(PROMPT, 50, {"layers.3": iv.scale(1.0)})
    assert stopped.finish_reason == "stop" and stopped.tokens[-1] in demo.tokenizer.eos_token_ids


# ---- what never acts, and what breaks


def test_an_intervention_that_never_acts(demo, llama):
    stopping = demo.generate(PROMPT, 50)
    n = len(demo.ids(PROMPT))
    last = n + len(stopping.tokens) - 2
    demo.generate(PROMPT, 50, {"layers.11": iv.add_vector(0.0, last)})
    for edit in (iv.add_vector(0.0, last + 1), iv.compose(iv.scale(1.0), iv.add_vector(0.0, last + 1)),
                 lambda x: iv.add_vector(0.0, last + 1)(x)):  # fmt: skip
        with pytest.raises(errors.OrderError, match="never acted"):
            demo.generate(PROMPT, 50, {"layers.11": edit})
    end = next(iter(demo.tokenizer.eos_token_ids))
    only_end = [lambda tokens, logits: logits + 1e9 * (mx.arange(logits.shape[-1]) == end)]
    with pytest.raises(errors.OrderError, match="never acted"):
        demo.generate(PROMPT, 50, {"layers.11": iv.scale(2)}, "new", logits_processors=only_end)
    with pytest.raises(errors.OrderError, match="never acted"):
        list(llama.generate(IDS, N, {"layers.1": lambda x: iv.zero_at(99)(x)}, stream=True))


def test_edits_that_break_numbers_or_shapes(llama):
    for edit in (lambda x: x * mx.nan, lambda x: x / 0):
        with pytest.raises(errors.EditError, match="NaN"):
            llama.generate(IDS, N, {"layers.1": edit})
    with pytest.raises(errors.EditError, match=f"new token at position {T}"):
        llama.generate(IDS, N, {"layers.1": lambda x: x if x.shape[1] > 1 else x / 0})
    with pytest.raises(errors.EditError, match="where='prompt'"):
        llama.generate(IDS, N, {"layers.1": iv.replace_with(mx.zeros((1, T, llama.d_model)))})
    llama.generate(IDS, N, {"layers.1": iv.replace_with(mx.zeros((1, T, llama.d_model)))}, "prompt")
    with pytest.raises(errors.PositionError, match="where='prompt'"):
        llama.generate(IDS, N, {"layers.1": lambda x: x.at[:, 3].set(0.0)})
    for sites in ({"layers.1.mpl": iv.scale(2)}, {"layers.9": iv.scale(2)}):
        with pytest.raises((errors.SiteError, errors.PositionError)):
            llama.generate(IDS, N, sites)
    with pytest.raises(errors.InputError):
        llama.generate(IDS, N, {"layers.1": iv.zero_out})


# ---- streams


def state(model):
    return [type(m) for m in model.net.modules()], mx.fast.scaled_dot_product_attention


def test_streams_that_are_left(llama):
    before, right = state(llama), llama.generate(IDS, N).tokens
    edits = {"layers.1.k": iv.scale(2), "layers.0": iv.scale(2)}
    running = llama.generate(IDS, N, edits, stream=True)
    assert state(llama) == before
    next(running)
    assert state(llama) == before  # between two tokens the model is as it was
    assert llama.generate(IDS, N).tokens == right
    running.close()
    with pytest.raises(KeyboardInterrupt):
        for _ in llama.generate(IDS, N, edits, stream=True):
            raise KeyboardInterrupt

    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        llama.generate(IDS, N, {"layers.1.pattern": interrupted})
    assert state(llama) == before and llama.generate(IDS, N).tokens == right


def test_two_streams_in_turn(llama):
    one, two = {"layers.1.v": iv.scale(2)}, {"layers.1.v": iv.zero_at(-1), "layers.0": iv.scale(1.5)}
    right = [llama.generate(IDS, N, edits).tokens for edits in (one, two)]
    pairs = zip(*(llama.generate(IDS, N, edits, stream=True) for edits in (one, two)), strict=True)
    assert [list(x) for x in zip(*((a.token, b.token) for a, b in pairs), strict=True)] == right


def test_threads_generate_with_the_same_model(llama):
    factors = [1.0, 1.5, 2.0]
    right = [llama.generate(IDS, N, {"layers.1": iv.scale(k)}).tokens for k in factors]
    found: dict[int, list[int]] = {}

    def work(n):
        with mx.stream(mx.new_thread_local_stream(mx.cpu)):
            found[n] = llama.generate(IDS, N, {"layers.1": iv.scale(factors[n])}).tokens

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found.get(n) for n in range(3)] == right


def test_no_text_is_generated_inside_a_trace(llama):
    running = llama.generate(IDS, N, {"layers.1": iv.scale(2)}, stream=True)
    with llama.trace(IDS):
        with pytest.raises(errors.OrderError, match="interventions="):
            llama.generate(IDS, N)
        with pytest.raises(errors.OrderError, match="interventions="):
            next(running)
    for response in llama.generate(IDS, N, {"layers.1": iv.scale(2)}, stream=True):
        with llama.trace(IDS) as run:  # beside a stream it may be
            pass
        assert run.output.shape[1] == T and response.token >= 0


def test_a_generation_is_a_string(demo):
    text = demo.generate(PROMPT, 2)
    assert (
        text + "!" == f"{text}!"
        and text == pickle.loads(pickle.dumps(text))
        and text.upper() == str(text).upper()
    )
    assert text.logprobs.dtype == np.float64 and len(text.tokens) == 2
    without = InterpretableModel(demo.net).generate(demo.ids(PROMPT), 2)
    assert without.tokens == text.tokens and without == "".join(f"<{t}>" for t in text.tokens)


def test_modules_that_are_called_twice_in_a_pass():
    model = InterpretableModel(models.make("nanbeige"))
    path = next(p for p, n in model.resolver.structure.visits.items() if n == 2 and p.endswith("layers.0"))
    texts = []
    for visit in (0, 1):
        edit = {f"{path}@{visit}": iv.scale(1.7)}
        texts.append(model.generate(IDS, 3, edit))
        assert np.abs(texts[-1].logprobs - anew(model, texts[-1].tokens, edit)).max() < 5e-5
    assert np.abs(texts[0].logprobs - texts[1].logprobs).max() > 1e-2
    with pytest.raises(errors.SiteError, match="@1"):
        model.generate(IDS, 3, {path: iv.scale(1.7)})


def test_adapters():
    net = models.make("llama", num_hidden_layers=2)
    model = InterpretableModel(net)
    plain = model.generate(IDS, 3)
    linear_to_lora_layers(net, 1, {"rank": 2, "scale": 20.0, "dropout": 0.0})
    mx.random.seed(0)
    net.update(
        tree_map_with_path(lambda p, x: mx.random.normal(x.shape) if "lora" in p else x, net.parameters())
    )
    edit = {"layers.1.self_attn.q_proj": iv.scale(1.5), "layers.0": iv.zero_at(2)}
    text = model.generate(IDS, 3, edit)
    assert np.abs(text.logprobs - anew(model, text.tokens, edit)).max() < 5e-5
    assert np.abs(model.generate(IDS, 3).logprobs - plain.logprobs).max() > 1e-2


def test_positions_are_told_where_there_are_tokens(llama):
    """A pattern has its heads on the axis that holds tokens elsewhere."""
    with pytest.raises(errors.EditError, match="axis 1"):
        llama.generate(IDS, N, {"layers.1.pattern": iv.zero_at(1)})
    llama.generate(IDS, N, {"layers.1.pattern": iv.scale(0.5)})


def test_ranks_of_a_sharded_model_take_the_token_of_the_first():
    """Each would draw its own, and go on from another text."""

    def ask(group):
        own = mx.zeros((1, 9)).at[0, 2 + group.rank()].add(1.0)
        drawn = generation._of_first(group, lambda logprobs: mx.array([5 + group.rank()]))
        return generation._of_first(group, None)(own).tolist(), drawn(own).tolist()

    assert on_ranks(2, ask) == [([2], [5])] * 2
