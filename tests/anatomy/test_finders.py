"""Finders: the site of each component from what the probe found, or the reason why there is none."""

from __future__ import annotations

import dataclasses

import models
import pytest

from mlxtrace.anatomy.attention import INTERNALS
from mlxtrace.anatomy.components import COMPONENTS
from mlxtrace.anatomy.finders import FINDERS, Missing, Place
from mlxtrace.anatomy.probe import probe


@pytest.fixture(scope="module")
def layer():
    return probe(models.make("llama")).layers[1]


def found(layer, component, heads=4):
    return FINDERS[component](layer, Place(component, 1, heads))


@pytest.mark.parametrize("component", [c for c in COMPONENTS if c != "router"])
def test_every_site_says_what_it_is(layer, component):
    site = found(layer, component)
    assert (site.name, site.component, site.layer) == (f"layers.1.{component}", component, 1)
    assert site.path.startswith(layer.path)
    assert (site.side in INTERNALS) == (component in INTERNALS)


@pytest.mark.parametrize(
    ("component", "changes", "why"),
    [
        ("resid_pre", {"slot": None, "no_mid": "never called"}, "never called"),
        ("resid_post", {"slot": None, "no_mid": "never called"}, "never called"),
        ("resid_mid", {"added": None, "no_mid": "in parallel"}, "in parallel"),
        ("attn", {"mixers": ()}, "has none"),
        ("attn", {"mixers": ("a", "b")}, "several; name one of a, b"),
        (
            "mlp",
            {"mlps": ("a", "b"), "summed": (), "no_mlp": "one after the other"},
            "one after the other; name",
        ),
        ("mlp", {"mlps": ()}, "has none"),
        ("head", {"out_proj": None}, "does not end in one output projection"),
        ("head", {"split": 0}, "mixes the heads"),
        ("head", {"split": 2}, "says that it has 4 heads, but attends with 2"),
        ("neuron", {"down_proj": None}, "does not end in one down projection"),
        (
            "pattern",
            {"attention": None, "no_attention": "it calls none"},
            "it calls none, so there are no queries",
        ),
        ("router", {"no_router": "no mixture"}, "no mixture"),
        ("router", {"router": "gate", "router_in_rows": True, "time_axis": 2}, "all tokens in one row"),
    ],
)
def test_reasons(layer, component, changes, why):
    with pytest.raises(Missing, match=why):
        found(dataclasses.replace(layer, **changes), component)


def test_heads_that_nobody_counted(layer):
    with pytest.raises(Missing, match="how many heads"):
        found(layer, "head", heads=None)
    assert found(dataclasses.replace(layer, split=None), "head").heads == 4, "not measured is not wrong"


def test_several_modules_that_write_the_mlp(layer):
    site = found(dataclasses.replace(layer, mlps=("a", "b"), summed=("a", "b")), "mlp")
    assert (site.path, site.view, site.modules, [b.path for b in site.bases]) == (
        "b",
        "sum",
        ("a", "b"),
        ["a"],
    )
    site = found(dataclasses.replace(layer, mlps=("a", "b"), summed=("c",)), "mlp")
    assert (site.path, site.view, site.modules, site.bases) == ("c", "whole", ("a", "b"), ())
