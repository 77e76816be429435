"""The laws of layers and the stream, on models that break them; `identities/test_whole_mlp.py` has the sums of MLPs."""

from __future__ import annotations

import mlx.core as mx
import pytest
from faulty_models import (
    IgnoringInput,
    LeavingOutMLP,
    Model,
    Remembering,
    Sound,
    failing,
    rows_of,
    show_scaled,
)

from mlxtrace import InterpretableModel, check
from mlxtrace.laws import stream_laws
from mlxtrace.laws.model_under_test import ModelUnderTest
from mlxtrace.laws.registry import MODEL_LAWS


def test_a_layer_that_ignores_its_input():
    rows = rows_of(IgnoringInput, MODEL_LAWS)
    assert failing(rows) == {stream_laws.reads.name}
    row = rows[stream_laws.reads.name]
    assert row.error == 1 and "layer 1" in row.note
    assert "what comes before cannot matter" in check.verdict(list(rows.values()))


def test_state_outside_the_stream():
    rows = rows_of(Remembering, MODEL_LAWS, first=Remembering)
    assert {stream_laws.stream.name, stream_laws.follows.name} & failing(rows)
    assert "resid_pre" in check.verdict(list(rows.values()))


def test_a_component_that_nothing_reads():
    rows = rows_of(LeavingOutMLP, MODEL_LAWS)
    assert failing(rows) == {stream_laws.written.name}
    assert "layers.1.mlp" in rows[stream_laws.written.name].note


class Blind(Sound):
    """A layer whose attention looks at the token itself only."""

    def __call__(self, x):
        mask = mx.eye(x.shape[1], dtype=mx.bool_)
        x = x + self.self_attn(self.norm1(x), mask=mask)
        return x + self.mlp(self.norm2(x))


class Swapped(Model):
    """Runs its second layer before its first."""

    def __init__(self):
        super().__init__()
        self.swapped = True

    def __call__(self, tokens, cache=None):
        h = self.embed_tokens(tokens)
        for i in (1, 0, 2):
            h = self.layers[i](h)
        return self.lm_head(self.norm(h))


def test_layers_are_named_in_the_order_in_which_they_run(monkeypatch):
    tested = ModelUnderTest(InterpretableModel(Swapped()))
    assert stream_laws.names(tested).error == 0
    layers = tested.resolver.structure.layers
    monkeypatch.setitem(tested.by_hand.modules, layers[0].path, tested.net.layers[0])
    found = stream_laws.names(tested)
    assert found.error == 1 and "layer 0" in found.note


def test_a_mixer_makes_an_attention_call_or_moves_what_tokens_know():
    tested = ModelUnderTest(InterpretableModel(Model(Blind)))
    place = tested.by_hand.places["attn", 1]
    assert tested.by_hand.mixes(place, tested.ids)  # it makes an attention call
    assert not tested.by_hand.mixes(tested.by_hand.places["mlp", 1], tested.ids)


def test_an_mlp_taken_for_the_mixer():
    tested = ModelUnderTest(InterpretableModel(Model()))
    tested.by_hand.places["attn", 1] = tested.by_hand.places["mlp", 1]
    found = stream_laws.names(tested)
    assert found.error == 2 and "attn and mlp of layer 1 are one" in found.note


@pytest.mark.parametrize("component", ["resid_mid", "resid_post"])
def test_sums_that_do_not_add_up(component):
    tested = ModelUnderTest(InterpretableModel(Model()))
    assert stream_laws.sums(tested).error <= tested.limit
    show_scaled(tested, f"layers.1.{component}", 1.01)
    assert stream_laws.sums(tested).error > 1e-3
