"""Names of sites: every form that is accepted, and what anything else is told."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import models
import pytest

from mlxtrace import InterpretableModel, errors
from mlxtrace import interventions as iv

IDS = [3, 17, 5, 90, 41]


@pytest.mark.parametrize("name", models.NAMES)
def test_every_listed_site_resolves_to_itself(name):
    resolver = InterpretableModel(models.make(name)).resolver
    for site in resolver.sites():
        found, listed = resolver.resolve(site), resolver.table[site]
        assert (found.port, found.view) == (listed.port, listed.view), site


@pytest.mark.parametrize(
    ("name", "port", "view"),
    [
        ("model.layers.1.mlp", ("model.layers.1.mlp", "output", 0), "whole"),
        ("layers.1.mlp", ("model.layers.1.mlp", "output", 0), "whole"),
        ("layers.1.mlp.output", ("model.layers.1.mlp", "output", 0), "whole"),
        ("layers.1.mlp.input", ("model.layers.1.mlp", "input", 0), "whole"),
        ("1.mlp.down_proj.input", ("model.layers.1.mlp.down_proj", "input", 0), "whole"),
        ("layers.1", ("model.layers.1", "output", 0), "whole"),
        ("layers.1.output", ("model.layers.1", "output", 0), "whole"),
        ("layers.1.input", ("model.layers.1", "input", 0), "whole"),
        ("layers.1.resid_post", ("model.layers.1", "output", 0), "whole"),
        ("layers.1.self_attn", ("model.layers.1.self_attn", "output", 0), "whole"),
        ("layers.1.attn", ("model.layers.1.self_attn", "output", 0), "whole"),
        ("layers.1.resid_mid", ("model.layers.1.self_attn", "output", 0), "middle"),
        ("layers.1.head", ("model.layers.1.self_attn.o_proj", "input", 0), "heads"),
        ("layers.1.neuron", ("model.layers.1.mlp.down_proj", "input", 0), "whole"),
        ("embed", ("model.embed_tokens", "output", 0), "whole"),
        ("embed_tokens", ("model.embed_tokens", "output", 0), "whole"),
        ("norm", ("model.norm", "output", 0), "whole"),
        ("lm_head", ("lm_head", "output", 0), "whole"),
        ("logits", ("", "output", 0), "whole"),
    ],
)
def test_names_on_a_llama(llama, name, port, view):
    site = llama.resolver.resolve(name)
    assert (site.port, site.view) == (port, view)
    assert llama.resolver.resolve(site) is site


def test_gpt2_names(gpt2):
    resolve = gpt2.resolver.resolve
    assert resolve("h.2.mlp").path == resolve("layers.2.mlp").path == "model.h.2.mlp"
    assert resolve("h.2").path == "model.h.2"
    assert resolve("layers.2.attn").path == resolve("h.2.attn").path == "model.h.2.attn"


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("layers.1.mpl", errors.SiteError, "layers.1.mlp"),
        ("mlp", errors.SiteError, "ambiguous"),
        ("down_proj", errors.SiteError, "ambiguous"),
        ("layers.9.mlp", errors.PositionError, "0 to 2"),
        ("layers.9", errors.PositionError, "0 to 2"),
        ("nonsense", errors.SiteError, "closest"),
        ("", errors.SiteError, "string"),
        (3, errors.SiteError, "3"),
        (None, errors.SiteError, "None"),
        ("layers.1.mlp@3", errors.SiteError, "runs 1 times"),
        ("layers.one.mlp", errors.SiteError, "closest"),
    ],
)
def test_names_that_mean_nothing(llama, name, error, text):
    with pytest.raises(error, match=text):
        llama.trace(IDS, interventions={name: iv.zero_out()})


def test_errors_are_also_the_builtins_that_fit(llama):
    for error, name in ((KeyError, "layers.1.mpl"), (IndexError, "layers.9.mlp")):
        with pytest.raises(error):
            llama.resolver.resolve(name)


@pytest.mark.parametrize(
    ("component", "layer", "error"),
    [("mpl", 0, errors.SiteError), ("mlp", None, errors.SiteError), ("mlp", "0", errors.SiteError),
     ("mlp", True, errors.SiteError), ("mlp", 1.0, errors.SiteError), ("mlp", 3, errors.PositionError),
     ("mlp", -4, errors.PositionError)],
)  # fmt: skip
def test_sites_that_do_not_exist(llama, component, layer, error):
    with pytest.raises(error):
        llama.resolver.site(component, layer)


def test_negative_layers_and_aliases(llama):
    site = llama.resolver.site
    assert site("output", -1) == site("resid_post", 2)
    assert site("self_attn", 0) == site("attn", 0)


@pytest.mark.parametrize(
    ("name", "site", "text"),
    [
        ("cohere", "layers.0.resid_mid", "parallel"),
        ("granite", "layers.1.resid_mid", "plain sum"),
        ("mamba", "layers.0.mlp", "has none"),
        ("mamba", "layers.0.head", "how many heads"),
        ("jamba", "layers.0.head", "how many heads"),
        ("mixtral", "layers.0.neuron", "down projection"),
    ],
)
def test_what_an_architecture_lacks_is_refused_with_the_reason(name, site, text):
    with pytest.raises(errors.UnsupportedError, match=text):
        InterpretableModel(models.make(name)).resolver.resolve(site)


class Shared(nn.Module):
    """Layers that share one activation module, and a stack that is known under two names."""

    def __init__(self):
        super().__init__()
        self.net = models.make("llama")
        act = nn.GELU()
        for layer in self.net.model.layers:
            layer.mlp.act = act
            layer.mlp.__class__ = ActMLP
        self.alias = self.net.model

    @property
    def layers(self):
        return self.net.model.layers

    def __call__(self, tokens, cache=None):
        return self.net(tokens, cache)


class ActMLP(nn.Module):
    def __call__(self, x):
        return self.down_proj(self.act(self.gate_proj(x)))


def test_a_module_in_several_places_is_named_by_its_visit():
    model = InterpretableModel(Shared())
    resolve = model.resolver.resolve
    assert resolve("alias.layers.1.mlp").path == resolve("net.model.layers.1.mlp").path
    with pytest.raises(errors.SiteError, match="@0"):
        model.trace(IDS, interventions={"net.model.layers.1.mlp.act": iv.zero_out()})
    act = next(p for p in model.resolver.modules if p.endswith("mlp.act"))
    with pytest.raises(errors.SiteError, match="3 times"):
        model.trace(IDS, interventions={act: iv.zero_out()})
    with model.trace(IDS, interventions={f"{act}@1": iv.zero_out()}) as trace:
        pass
    dead = [mx.abs(trace.activations[f"layers.{i}.mlp"]).max().item() == 0 for i in range(3)]
    assert dead == [False, True, False]
    with pytest.raises(errors.SiteError, match="same module"), model.trace(IDS):
        model.layers[1].mlp.act.output  # noqa: B018


def test_visits_of_a_stack_that_runs_twice():
    model = InterpretableModel(models.make("nanbeige"))
    with model.trace(IDS, interventions={"layers.2.mlp": iv.zero_out()}) as trace:
        model.layers[3].mlp.output[:, 1] = 0.0
    zero = [mx.abs(trace.activations[f"layers.{i}.mlp"]).max().item() == 0 for i in range(4)]
    assert zero == [False, False, True, False]
    assert mx.abs(trace.activations["layers.3.mlp"][:, 1]).max() == 0
    with pytest.raises(errors.SiteError, match="2 times"):
        model.trace(IDS, interventions={"model.layers.0.mlp.down_proj": iv.zero_out()})


def test_describe_and_getters(llama):
    resolver = llama.resolver
    assert "self_attn" in resolver.describe() and "lm_head" in resolver.describe()
    assert resolver.get_layers() == llama.net.model.layers
    assert resolver.get_embedding_layer() is llama.net.model.embed_tokens
    assert resolver.get_final_norm() is llama.net.model.norm
    assert llama._module_resolver is resolver
