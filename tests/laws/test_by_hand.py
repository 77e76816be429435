"""A model by hand: it shares nothing with the engine, and does what plain module calls do."""

from __future__ import annotations

import mlx.core as mx
import models
import numpy as np
import pytest
import test_house
from faulty_models import Model

from mlxtrace import InterpretableModel
from mlxtrace.laws.by_hand import ModelByHand
from mlxtrace.laws.model_under_test import ModelUnderTest

IDS = [3, 17, 5, 40, 41, 8]


@pytest.fixture(scope="module")
def sound():
    return ModelUnderTest(InterpretableModel(Model())).by_hand


def test_a_loop_by_hand_shares_nothing_with_the_engine():
    """They import one another downwards, and of the package besides what says which arrays are a rank's own part."""
    assert test_house.imported("laws.module_calls") == {"anatomy.shards"}
    assert not {m for m in test_house.imported("anatomy.shards") if not m.startswith("anatomy.")}
    assert test_house.imported("laws.pass_by_hand") == {"laws.module_calls"}
    assert test_house.imported("laws.by_hand") == {"laws.pass_by_hand", "laws.module_calls"}
    assert not test_house.imported("laws.metric_formulas")


def test_runs_keep_what_passes_and_leave_no_mark(sound):
    classes = [type(m) for m in sound.net.modules()]
    plain = np.array(sound.net(mx.array([IDS])), dtype=np.float64)[0]
    logits, kept = sound.run(IDS, keep=[("resid_pre", 1), ("attn", 1), ("resid_mid", 1), ("mlp", 1)])
    assert np.array_equal(logits, plain) and np.array_equal(sound.logits(IDS), plain)
    np.testing.assert_allclose(kept["resid_pre", 1] + kept["attn", 1], kept["resid_mid", 1], rtol=1e-6)
    assert [type(m) for m in sound.net.modules()] == classes


def test_what_is_never_reached_raises(sound):
    other = ModelByHand(sound.net, {("mlp", 0): ("layers.0.mlp", 1)}, "embed_tokens")
    with pytest.raises(RuntimeError, match=r"not reached \[\('mlp', 0\)\]"):
        other.run(IDS, keep=[("mlp", 0)])


def test_the_order_of_calls(sound):
    first, second, third = sound.net.layers
    assert sound.order_of_calls([third, first, second], IDS) == [first, second, third]
    assert sound.order_of_calls([], IDS) == []


def test_which_modules_move_what_tokens_know(sound):
    assert sound.mixes(sound.places["attn", 0], IDS) is True
    assert sound.mixes(sound.places["mlp", 0], IDS) is False
    recurrent = ModelUnderTest(InterpretableModel(models.make("mamba"))).by_hand
    assert recurrent.mixes(recurrent.places["attn", 0], IDS) is True  # without an attention call


def test_projections_of_something_else_than_attention(sound):
    assert sound.projects_attention(0, IDS)
    gated = ModelUnderTest(InterpretableModel(models.make("qwen3_next")))
    layers = [i for i in gated.all_layers if ("pattern", i) in gated.by_hand.places]
    assert layers and not any(gated.by_hand.projects_attention(i, IDS) for i in layers)


def test_overwriting_changes_no_logits_but_what_was_given(sound):
    plain = sound.logits(IDS)
    seen = []
    with sound.overwriting():
        assert np.array_equal(sound.logits(IDS), plain)
        x = sound.net.embed_tokens(mx.array([IDS]))
        seen.append(mx.abs(x).max().item())
        sound.net.layers[0](x)
        seen.append(mx.abs(x).max().item())
    assert seen[0] > 0 == seen[1]


def test_models_that_need_a_cache_get_one():
    calls = []

    class Net(Model):
        def __call__(self, tokens, cache=None):
            calls.append(cache)
            return super().__call__(tokens)

    ModelByHand(Net(), {}, "embed_tokens").logits(IDS)
    ModelByHand(Net(), {}, "embed_tokens", with_cache=True).logits(IDS)
    assert calls[0] is None and len(calls[1]) == 3
