"""Gradients of a measure at sites: their values, the way between two runs, and the memory that is allowed."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from models import make

from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.engine.gradient_memory import pass_bytes
from mlxtrace.engine.gradient_pass import Way
from mlxtrace.engine.gradients import Gradients, gradients
from mlxtrace.engine.joint_runs import Runs
from mlxtrace.engine.runs import Run, capture
from mlxtrace.errors import InputError

IDS, OTHER = (3, 10, 17, 24, 31, 38), (3, 90, 97, 24, 31, 38)
NOISE = np.random.RandomState(0).randn(4, 1, 64)


def first(logits: mx.array) -> mx.array:
    return logits[:, 0] - logits[:, 1]


@pytest.fixture(scope="module")
def resolver() -> ModuleResolver:
    return ModuleResolver(make("llama"))


@pytest.fixture(scope="module")
def sites(resolver):
    return [site for site in resolver.table.values() if site.layer is not None]


def test_each_row_has_its_own_gradient(resolver, sites):
    alone = [gradients(resolver, Run(ids), sites, first) for ids in (IDS, OTHER)]
    values, found = gradients(resolver, Runs((Run(IDS), Run(OTHER))), sites, first)
    for row, (value, own) in enumerate(alone):
        assert values[row] == pytest.approx(value[0], abs=1e-4) and values.dtype == np.float64
        for name, gradient in own.items():
            assert np.allclose(np.array(found[name][row]), np.array(gradient[0]), atol=1e-4), name


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_way_from_one_run_to_another_begins_and_ends_at_the_runs(resolver, share):
    ends = [gradients(resolver, Run(ids), [resolver.site("embed")], first)[0][0] for ids in (IDS, OTHER)]
    value = gradients(resolver, Run(IDS), [resolver.site("embed")], first, share, Run(OTHER))[0][0]
    if share in (0, 1):
        assert value == pytest.approx(ends[int(share)], abs=1e-4)
    else:
        assert all(abs(value - end) > 1e-3 for end in ends)


def test_the_way_of_a_noised_run_is_that_of_each_of_its_samples(resolver):
    base = Run(IDS, np.zeros((4, 0, 64)))
    noised = Run(IDS, NOISE, noised=(2,))
    values, _ = gradients(resolver, base, [resolver.site("embed")], first, 1.0, noised)
    logits, _ = capture(resolver, noised, [])
    assert np.allclose(values, logits[:, 0] - logits[:, 1], atol=1e-4)


def test_noise_is_in_the_run_that_is_differentiated(resolver):
    noised = Run(IDS, NOISE, noised=(2,))
    values, found = gradients(resolver, noised, [resolver.site("embed")], first)
    logits, _ = capture(resolver, noised, [])
    assert np.allclose(values, logits[:, 0] - logits[:, 1], atol=1e-4)
    assert not np.allclose(np.array(found["embed"][0]), np.array(found["embed"][1]), atol=1e-2)


def test_prompts_of_two_lengths_have_no_way_in_between(resolver):
    with pytest.raises(InputError, match="6 and 5 tokens"):
        gradients(resolver, Run(IDS), [resolver.site("embed")], first, 0.5, Run(OTHER[:5]))


def test_little_memory_changes_no_number(resolver, sites):
    """Layers computed again, then rows one at a time; below that it is refused, with what it needs."""
    run = Run(IDS, NOISE, noised=(2,))
    values, right = gradients(resolver, run, sites, first)
    enough = Gradients(resolver, run, sites).bytes
    kept = 2 * sum(x.nbytes for x in Gradients(resolver, run, sites).zeros.values())
    ways = []
    for rows in (4, 1):
        memory = kept + pass_bytes(resolver, Way(checkpointed=True), rows, len(IDS))
        tight = Gradients(resolver, run, sites, max_memory=memory)
        ways.append((tight.one.way.checkpointed, len(tight.rows)))
        assert tight.bytes <= memory < enough
        found_values, found = tight.of(first)
        assert np.allclose(found_values, values, atol=1e-5)
        for name, gradient in right.items():
            assert np.allclose(np.array(found[name]), np.array(gradient), atol=1e-4), name
    assert ways == [(True, 1), (True, 4)]
    with pytest.raises(
        InputError, match=f"max_memory is {kept} bytes, but gradients of a prompt of 6 tokens"
    ):
        Gradients(resolver, run, sites, max_memory=kept)
