"""What a prompt may be, its length and its ids: tables as modules or bare arrays, and models without one."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import models
import pytest

from mlxtrace import InterpretableModel, errors
from mlxtrace.anatomy.probe import probe


class Bare(nn.Module):
    """A GPT-2 whose positions are looked up in a bare array, without a module call."""

    def __init__(self, net):
        super().__init__()
        self.inner = net
        self.places = mx.random.normal((16, 48))

    @property
    def layers(self):
        return self.inner.layers

    def __call__(self, ids, cache=None):
        x = self.inner.model.wte(ids) + self.places[mx.arange(ids.shape[1])]
        for layer in self.inner.layers:
            x = layer(x, "causal")
        return self.inner.model.wte.as_linear(self.inner.model.ln_f(x))


def test_a_table_of_positions_that_is_no_module():
    model = InterpretableModel(Bare(models.make("gpt2")))
    assert model.resolver.structure.max_length == 16
    with pytest.raises(errors.TokenError, match="16 positions"):
        model.trace([1] * 17)


def test_rotary_models_have_no_such_limit(llama):
    assert llama.resolver.structure.max_length is None


def test_a_table_that_is_a_module():
    assert probe(models.make("gpt2")).max_length == 128


def test_the_model_is_left_as_it_was():
    net = Bare(models.make("gpt2"))
    before = mx.array(net.places)
    probe(net)
    assert mx.array_equal(net.places, before)


def test_an_array_that_holds_no_positions_is_no_limit():
    """It has the shape of a table, and is never read."""
    net = Bare(models.make("gpt2"))
    net.other = mx.ones((12, 48))
    assert probe(net).max_length == 16


# ---- ids


class Second(nn.Module):
    """A GPT-2 with a second, smaller table of tokens; it reads the ids beyond it as id 0, or not at all as others."""

    def __init__(self, kept_away: bool, rows: int = 100):
        super().__init__()
        self.inner, self.kept_away, self.rows = models.make("gpt2"), kept_away, rows
        self.second = nn.Embedding(rows, 48)

    @property
    def layers(self):
        return self.inner.layers

    def __call__(self, ids, cache=None):
        known = mx.where(ids < self.rows, ids, 0) if self.kept_away else ids
        x = self.inner.model.wte(ids) + self.second(known)
        for layer in self.inner.layers:
            x = layer(x, "causal")
        return self.inner.model.wte.as_linear(self.inner.model.ln_f(x))


def test_ids_beyond_a_second_table_are_refused_where_the_model_looks_them_up():
    kept_away, looked_up = (InterpretableModel(Second(kind)) for kind in (True, False))
    assert kept_away.ids([3, 100, models.VOCAB - 1]) == [3, 100, models.VOCAB - 1]
    assert looked_up.ids([3, 99]) == [3, 99]
    for refused in (
        looked_up.ids,
        looked_up.trace,
        looked_up.prompt,
        lambda ids: looked_up.answer_tokens([*ids, 1]),
    ):
        with pytest.raises(errors.TokenError, match=r"token id 100\b.* 0\.\.99"):
            refused([3, 100])
    assert looked_up.answer_tokens([3, 100]) == (3, 100)  # the last token of an answer is not read
    assert probe(Second(False, rows=models.VOCAB)).known_ids == models.VOCAB


@pytest.mark.parametrize("bits", [None, 4])
def test_inputs_by_layer_have_a_table_of_their_own(bits):
    smaller = {"vocab_size_per_layer_input": 128, "hidden_size_per_layer_input": 32}
    net = models.make("gemma4_text", quantize=bits, **smaller)
    before = {
        name: mx.array(x) for name, x in net.model.embed_tokens_per_layer.items() if isinstance(x, mx.array)
    }
    model = InterpretableModel(net)
    with pytest.raises(errors.TokenError, match=r"0\.\.127"):
        model.activation_patching([3, 4, 5], [3, 128, 5], target=7, foil=8)
    assert all(mx.array_equal(net.model.embed_tokens_per_layer[name], x) for name, x in before.items())
