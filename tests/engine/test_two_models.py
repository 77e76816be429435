"""A source run in another model: its sites, and what is refused where they hold other arrays."""

from __future__ import annotations

import models
import pytest

from mlxtrace import InterpretableModel, errors
from mlxtrace.engine.runs import norm_input
from mlxtrace.engine.two_models import check_shapes, site_in


@pytest.fixture(scope="module")
def resolvers():
    return [InterpretableModel(models.make(name)).resolver for name in ("llama", "gpt2")]


def test_a_site_is_found_by_component_and_layer(resolvers):
    llama, gpt2 = resolvers
    for name, site in llama.table.items():
        if name in gpt2.table:
            assert site_in(gpt2, site) == gpt2.table[name]
    assert site_in(gpt2, norm_input(llama)) == norm_input(gpt2)


def test_shapes_are_compared_site_by_site(resolvers):
    llama, gpt2 = resolvers
    sites = [llama.site("mlp", 1), llama.site("head", 2), llama.site("mlp", 1)]
    assert check_shapes(llama, InterpretableModel(models.make("llama", seed=1)).resolver, sites) == ""
    with pytest.raises(errors.InputError, match=r"of 8 tokens layers.1.mlp is \[1, 8, 48\] there"):
        check_shapes(llama, gpt2, sites)
    with pytest.raises(errors.InputError, match="source_model: "):
        check_shapes(llama, InterpretableModel(models.make("mamba")).resolver, sites)


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        ("float32", "bfloat16", ""),
        ("bfloat16", "bfloat16", ""),
        ("bfloat16", "float32", "the source model's activations are rounded to bfloat16"),
        ("float16", "bfloat16", "the source model's activations are rounded to float16"),
    ],
)
def test_rounding_is_said(here, there, said):
    one, other = (InterpretableModel(models.make("llama"), dtype=dtype).resolver for dtype in (here, there))
    assert check_shapes(one, other, [one.site("mlp", 0)]) == said
