"""Estimates of edges: over what reads a sender they add up to the gradient of its own output."""

from __future__ import annotations

import functools

import models
import numpy as np
import pytest

from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.engine.edge_gradients import Between, edge_estimates
from mlxtrace.engine.edited_reads import EditedReads
from mlxtrace.engine.gradients import gradients
from mlxtrace.engine.graph import Graph
from mlxtrace.engine.runs import Run, capture
from mlxtrace.engine.split_reads import SplitRun

IDS, OTHER = (3, 17, 40, 9, 120, 66), (3, 88, 40, 51, 120, 66)
EVERY = range(6)


def measure(logits):
    return logits[:, 5] - logits[:, 77]


@functools.cache
def edited(name, base=IDS, source=OTHER):
    graph = Graph(ModuleResolver(models.make(name)))
    return EditedReads(SplitRun(graph, Run(base)), SplitRun(graph, Run(source)), EVERY, EVERY)


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3", "olmo2", "gpt_neox", "granite", "mixtral"])
def test_a_senders_estimates_add_up_to_its_gradient(name):
    """What is written is added to the stream, whose gradient is the sum of those of all reads after it."""
    pair = edited(name)
    graph, resolver = pair.graph, pair.graph.resolver
    found = edge_estimates(pair, measure, EVERY)[0]
    streams = [resolver.site("resid_pre", layer) for layer in range(graph.n_layers)]
    _, gradient = gradients(resolver, Run(IDS), streams, measure)
    expected, summed = [], []
    for i, node in enumerate(graph.senders):
        after = 0 if node.kind == "embed" else node.layer + 1
        if after == graph.n_layers:
            continue
        late = [j for j, read in enumerate(graph.receivers) if read.layer >= after]
        summed.append(found[i, late].sum())
        expected.append(float((gradient[streams[after].name] * pair.change_of(node)).sum()))
    np.testing.assert_allclose(summed, expected, atol=1e-5 * np.abs(expected).max())
    assert not found[~graph.upstream].any()


def test_few_bytes_give_the_same_estimates():
    pair = edited("llama")
    np.testing.assert_allclose(
        edge_estimates(pair, measure, EVERY, 2, most_bytes=1),
        edge_estimates(pair, measure, EVERY, 2),
        atol=1e-5,
    )


def test_a_run_in_between_begins_in_between():
    pair = edited("gpt2")
    resolver = pair.graph.resolver
    embed = resolver.site("embed")
    ours, theirs = (capture(resolver, run, [embed])[1][embed.name] for run in (Run(IDS), Run(OTHER)))
    for share in (0.0, 0.25, 1.0):
        run = Between(Run(IDS), theirs, tuple(EVERY), share, 1)
        logits, found = capture(resolver, run, [resolver.site("resid_pre", 0)])
        streams = pair.base.streams[0] + share * (pair.source.streams[0] - pair.base.streams[0])
        np.testing.assert_allclose(np.array(found["layers.0.resid_pre"]), np.array(streams), atol=1e-5)
        if share == 1:
            np.testing.assert_allclose(logits, pair.source.logits, atol=1e-4)
    assert (run.rows, run.each, run.length, run.noised, len(run.members)) == (1, 1, 6, (), 1)
    assert ours.shape == theirs.shape


def test_one_step_is_the_gradient_at_the_source():
    """j / steps for j = 1 ... steps: the last of them is the source run, and the base run is none of them."""
    there, back = edited("gpt2"), edited("gpt2", OTHER, IDS)
    np.testing.assert_allclose(
        edge_estimates(there, measure, EVERY, steps=1), -edge_estimates(back, measure, EVERY), atol=1e-4
    )
