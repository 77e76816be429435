"""The record of a pass: every module call with what it was given and gave, in order, and a model left as it was."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import models
import pytest

from mlxtrace import errors
from mlxtrace.anatomy.recording import (
    find_vocab,
    forward,
    module_paths,
    probe_tokens,
    record,
    same,
    snapshot,
    without_caches,
)

TOKENS = mx.array([[3, 17, 5, 90]])


def test_calls_nest_as_modules_do():
    net = models.make("llama")
    plain, classes = forward(net, TOKENS), [type(m) for m in net.modules()]
    calls = record(net, TOKENS)
    assert calls[0].path == "" and calls[0].parent is None and calls[0].end == len(calls)
    assert same(calls[0].array(), plain)
    for call in calls[1:]:
        parent = calls[call.parent]
        assert parent.index < call.index < call.end <= parent.end
        assert call.path.startswith(parent.path)
    assert [type(m) for m in net.modules()] == classes


def test_visits_count_the_calls_of_a_module():
    calls = record(models.make("nanbeige"), TOKENS)
    visits = [c.visit for c in calls if c.path == "model.layers.0.mlp"]
    assert visits == [0, 1]


def test_attention_calls_are_noted_where_they_are_made():
    made = {c.path: c.attention for c in record(models.make("llama"), TOKENS) if c.attention}
    assert made == {f"model.layers.{i}.self_attn": ((4, 2),) for i in range(3)}


class Doubles(nn.Module):
    """A layer that changes its input in place."""

    def __call__(self, x):
        x *= 2
        return x


def test_what_is_recorded_does_not_change_with_the_model():
    net = models.make("llama")
    net.model.layers[1].mlp = Doubles()
    given = {c.path: c for c in record(net, TOKENS)}
    call = given["model.layers.1.mlp"]
    assert same(2 * call.inputs()[0], call.array())
    assert call.argument(0) is call.inputs()[0] and call.argument(None) is None and call.argument(3) is None


def test_caches_are_left_out_when_a_call_is_made_again():
    class Cache:
        update_and_fetch = None

    call = record(models.make("llama"), TOKENS)[0]
    call.args, call.kwargs = (TOKENS, Cache()), {"cache": Cache(), "mask": None}
    assert [type(a) for a in without_caches(call)[0]] == [mx.array, type(None)]
    assert without_caches(call)[1] == {"cache": None, "mask": None}


def test_same_is_equal_bit_for_bit():
    x = mx.array([1.0, 2.0])
    assert same(x, mx.array([1.0, 2.0]))
    assert not same(x, x.astype(mx.float16)) and not same(x, x[None]) and not same(x, None)
    nest = snapshot([(x,), "text"])
    x += 1
    assert nest[0][0].tolist() == [1.0, 2.0] and nest[1] == "text"


def test_paths_are_in_natural_order():
    paths = [
        p
        for p in module_paths(models.make("gpt2", n_layer=12))
        if p.startswith("model.h.") and p.count(".") == 2
    ]
    assert paths == [f"model.h.{i}" for i in range(12)]


def test_vocabulary_and_tokens():
    assert find_vocab(models.make("llama")) == find_vocab(models.make("gpt2")) == models.VOCAB
    assert find_vocab(nn.Linear(2, 2)) is None
    assert find_vocab(nn.Sequential(nn.Embedding(7, 4))) == 7
    tokens = probe_tokens(5)
    assert tokens.shape == (1, 8) and tokens.max() < 5 and len(set(tokens[0].tolist())) > 2


def test_what_gives_no_logits_is_refused():
    with pytest.raises(errors.LoadError, match="not logits"):
        forward(Silent(), TOKENS)


class Silent(nn.Module):
    def __call__(self, tokens):
        return None
