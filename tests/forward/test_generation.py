"""Generating: mlx-lm's own text without interventions; with them what whole passes, run anew for each token, give."""

from __future__ import annotations

import mlx.core as mx
import mlx_lm
import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel, errors
from mlxtrace import interventions as iv

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
