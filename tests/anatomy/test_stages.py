"""Pipelines on ranks that are threads: each holds its own layers, and all see the whole model to the bit."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from fake_ranks import on_ranks
from sharded_models import CLEAN, make
from test_sharing import asked

from mlxtrace import InterpretableModel, loading
from mlxtrace.anatomy import stages
from mlxtrace.errors import LoadError
from mlxtrace.prompts.provenance import fingerprint

Held = stages.Held
share = Held._of_owner


def staged(name: str, group: object) -> nn.Module:
    return loading._dealt_out(make(name), group, name)


def differing(whole: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> list[str]:
    return [name for name, x in whole.items() if not np.array_equal(x, found[name])]


@pytest.mark.parametrize(
    ("name", "size"), [("llama", 2), ("qwen3_moe", 3), ("deepseek_v3", 2), ("llama-4bit", 2)]
)
def test_every_rank_sees_the_whole_to_the_bit(name, size):
    whole = asked(InterpretableModel(make(name)))
    for found in on_ranks(size, lambda group: asked(InterpretableModel(staged(name, group)))):
        assert differing(whole, found) == []


def traced(net: nn.Module) -> dict[str, np.ndarray]:
    model = InterpretableModel(net)
    with model.trace(CLEAN) as trace:
        pass
    sites = {name: np.array(trace.activations[name]) for name in model.resolver.sites()}
    return {"logits": np.array(trace.output), **sites}


def test_what_layers_leave_in_a_dict_that_they_are_given_is_shared():
    whole = traced(make("deepseek_v41"))
    for found in on_ranks(2, lambda group: traced(staged("deepseek_v41", group))):
        assert differing(whole, found) == []


def test_layers_that_read_anothers_cache_are_refused_on_every_rank():
    def ask(group):
        with pytest.raises(LoadError, match="its layers read more of each other than what they hand on"):
            InterpretableModel(staged("afm7", group))
        return True

    assert on_ranks(2, ask) == [True, True]


@pytest.mark.parametrize("fault", [lambda self, x: share(Held(self.group, 1), x), lambda self, x: x])
def test_planted_faults_are_seen(fault, monkeypatch):
    """Another rank's array taken for the owner's; nothing shared."""
    whole = asked(InterpretableModel(make("llama")))
    monkeypatch.setattr(Held, "_of_owner", fault)
    try:
        found = on_ranks(2, lambda group: asked(InterpretableModel(staged("llama", group))))
    except Exception:
        return
    assert differing(whole, found[0])


def test_modules_called_from_outside_of_a_pass_give_wholes():
    """A layer and a module in it, which is another rank's for one of the two."""
    x = mx.random.normal((1, 5, 64), key=mx.random.key(0))

    def ask(net):
        layer = InterpretableModel(net).net.layers[0]
        gradient = mx.grad(lambda x: layer(x).square().sum())(x)
        return {
            "layer": np.array(layer(x)),
            "inside": np.array(layer.mlp.up_proj(x)),
            "gradient": np.array(gradient),
        }

    whole = ask(make("llama"))
    for found in on_ranks(2, lambda group: ask(staged("llama", group))):
        assert differing(whole, {**found, "gradient": whole["gradient"]}) == []
        np.testing.assert_allclose(found["gradient"], whole["gradient"], rtol=1e-4, atol=1e-5)


def test_the_fingerprint_is_of_all_ranks_weights():
    """The first rank alone has the last layers only."""

    def ask(group, change=0.0):
        net = staged("llama", group)
        if group.rank() == 1:
            net.layers[0].mlp.up_proj.weight += change
        return fingerprint(net)

    before, after = on_ranks(2, ask), on_ranks(2, lambda group: ask(group, 1.0))
    assert before[0] == before[1] != after[0] == after[1]


def test_blanks_stand_where_weights_are_anothers():
    def ask(group):
        net = staged("llama", group)
        InterpretableModel(net)
        return [bool(mx.isnan(layer.mlp.up_proj.weight).all()) for layer in net.layers]

    assert on_ranks(2, ask) == [[True, False, False], [False, True, True]]
