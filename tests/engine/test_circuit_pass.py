"""Circuits of every architecture that has edges: at both ends, in any chunks, with any rows."""

from __future__ import annotations

import functools

import models
import numpy as np
import pytest
from noise import close

from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.engine.circuit_pass import CircuitPass
from mlxtrace.engine.graph import Graph
from mlxtrace.engine.joint_runs import Runs
from mlxtrace.engine.runs import Run
from mlxtrace.engine.split_reads import SplitRun
from mlxtrace.errors import UnsupportedError

IDS, OTHER = (3, 17, 40, 9, 120, 66), (3, 88, 40, 51, 120, 66)


@functools.cache
def split(name):
    graph = Graph(ModuleResolver(models.make(name)))
    return graph, SplitRun(graph, Run(IDS)), SplitRun(graph, Run(OTHER))


def halves(graph, n=3):
    return graph.upstream & (np.random.RandomState(0).rand(n, *graph.upstream.shape) < 0.6)


@pytest.mark.parametrize("name", ["gpt2", "llama", "olmo2", "gpt_neox", "granite"])
def test_all_edges_give_the_clean_logits_and_none_the_corrupted_ones(name):
    graph, clean, corrupted = split(name)
    kept = np.stack([graph.upstream, np.zeros_like(graph.upstream), *halves(graph)])
    found = CircuitPass(clean, corrupted).logits(kept)
    assert found.shape == (5, 1, clean.logits.shape[1])
    scale = np.abs(clean.logits).max()
    assert np.abs(found[0] - clean.logits).max() < 2e-5 * scale
    assert np.abs(found[1] - corrupted.logits).max() < 2e-5 * scale
    assert all(np.abs(one - clean.logits).max() > 1e-2 * scale for one in found[2:])


def test_chunks_and_rows_change_no_number():
    graph, clean, corrupted = split("llama")
    kept = halves(graph)
    together = CircuitPass(clean, corrupted).logits(kept)
    apart = CircuitPass(clean, corrupted, most_bytes=1).logits(kept)
    close(apart, together, graph.resolver)
    third = (5, 6, 7, 8, 9, 10)
    rows = [SplitRun(graph, Runs(tuple(map(Run, ids)))) for ids in ((IDS, third), (OTHER, third[::-1]))]
    close(CircuitPass(*rows).logits(kept)[:, 0], together[:, 0], graph.resolver)


def test_samples_of_noise_are_rows_beside_one_clean_run():
    graph, clean, _ = split("gpt2")
    noise = np.random.RandomState(0).randn(3, 2, 48)
    corrupted = SplitRun(graph, Run(IDS, noise, (1, 2)))
    found = CircuitPass(clean, corrupted).logits(halves(graph))
    for i in range(3):
        alone = SplitRun(graph, Run(IDS, noise[i : i + 1], (1, 2)))
        np.testing.assert_allclose(
            CircuitPass(clean, alone).logits(halves(graph))[:, 0], found[:, i], atol=2e-5
        )


def test_a_pass_that_does_not_give_the_runs_is_refused():
    graph, clean, corrupted = split("gpt2")
    for which, run in (("all", clean), ("no", corrupted)):
        passed, right = CircuitPass(clean, corrupted), run.logits
        run.logits = right + 0.01
        try:
            with pytest.raises(UnsupportedError, match=f"with {which} edges"):
                passed.logits(halves(graph))
        finally:
            run.logits = right
