"""A part of the sites: what it keeps is counted, let go, and made again."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from models import make

from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.engine.attribution_part import Part
from mlxtrace.engine.runs import Run, capture

IDS, OTHER = (3, 10, 17, 24, 31, 38), (3, 90, 97, 24, 31, 38)
ALL = tuple(range(len(IDS)))


def first(logits: mx.array) -> mx.array:
    return logits[:, 0] - logits[:, 1]


def part_of(resolver: ModuleResolver, names: list[str], method: str = "atp") -> Part:
    sites = [resolver.site(name, 1) for name in names]
    return Part(resolver, Run(IDS), Run(OTHER), sites, ALL, ALL, method)


def test_both_runs_are_the_plain_ones():
    resolver = ModuleResolver(make("llama"))
    part = part_of(resolver, ["mlp", "k"])
    part.fit(None)
    for found, ids in zip(part.begin(), (IDS, OTHER), strict=True):
        assert np.allclose(found, capture(resolver, Run(ids), [])[0], atol=1e-5)
    again = part.run(first)
    part.let_go()
    assert not part.base_arrays and not part.source_arrays
    part.begin()
    assert all((part.run(first).plain[name] == x).all() for name, x in again.plain.items())


def test_the_score_is_the_gradient_times_the_change():
    resolver = ModuleResolver(make("gpt2"))
    part = part_of(resolver, ["mlp", "pattern"])
    part.fit(None)
    part.begin()
    _, gradient = part.gradients.of(first)
    found = part.run(first).plain
    change = part.source_arrays["layers.1.mlp"] - part.base_arrays["layers.1.mlp"]
    assert np.allclose(
        found["layers.1.mlp"][..., 0], np.array((gradient["layers.1.mlp"] * change).sum(-1)), atol=1e-4
    )
    change = (
        part.source_arrays["layers.1.pattern"] - part.base_arrays["layers.1.pattern"]
    )  # [B, queries, heads, keys]
    by_query = gradient["layers.1.pattern"].swapaxes(1, 2)
    assert np.allclose(found["layers.1.pattern"], np.array((by_query * change).sum(-1)), atol=1e-4)


@pytest.mark.parametrize("method", ["atp", "atp*", "ig"])
def test_what_is_kept_is_counted(method):
    resolver = ModuleResolver(make("llama"))
    few, many = (
        part_of(resolver, ["mlp"], method).kept,
        part_of(resolver, ["mlp", "neuron", "q"], method).kept,
    )
    assert 4 * 64 * 6 * 4 <= few < many
