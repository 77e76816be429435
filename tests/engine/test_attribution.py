"""Estimates of what patches do: right for small changes, and what each method adds."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from models import make

from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.engine.attribution import METHODS, Attribution, attribute
from mlxtrace.engine.choice import choose
from mlxtrace.engine.joint_runs import Runs
from mlxtrace.engine.runs import Cell, Patch, Run
from mlxtrace.engine.sweep import Sweep

IDS, OTHER = (3, 10, 17, 24, 31, 38), (3, 90, 97, 24, 31, 38)
ALL = tuple(range(len(IDS)))


def first(logits: mx.array) -> mx.array:
    return logits[:, 0] - logits[:, 1]


@pytest.fixture(scope="module")
def resolver() -> ModuleResolver:
    return ModuleResolver(make("llama"))


@pytest.fixture(scope="module")
def sites(resolver):
    return [site for site in resolver.table.values() if site.layer is not None]


def swept(resolver, base, source, cells) -> np.ndarray:
    """What patches do, `[cells, rows]`."""
    sweep = Sweep(resolver, base, source, cells, choose(resolver, "auto"))
    found = sweep.run(lambda x: (x[:, 0].astype(np.float64) - x[:, 1])[None], progress=False)
    return found.values[0] - found.base[0][0]


def cells_of(sites) -> list[Cell]:
    return [Cell((Patch(site, (at,), (at,)),)) for site in sites for at in (1, 2, 5)]


@pytest.mark.parametrize("method", METHODS)
def test_small_changes_do_what_is_estimated(resolver, sites, method):
    """As the source run comes close to the base run, what a patch does over its estimate goes to 1."""
    chosen = [s for s in sites if s.layer == 1]
    off = []
    for size in (1e-2, 1e-3):
        noise = size * np.random.RandomState(1).randn(1, 2, 64)
        source = Run(IDS, noise, noised=(1, 2))
        base = Run(IDS, np.zeros((1, 0, 64)))
        found = attribute(
            resolver, base, source, chosen, ALL, ALL, first, "atp" if method == "atp*" else method
        )
        cells = cells_of(chosen)
        estimates = np.stack([found.of(cell) for cell in cells])
        true = swept(resolver, base, source, cells)
        off.append(np.linalg.norm(estimates - true) / np.linalg.norm(true))
    assert off[0] < 0.3 and off[1] < off[0] / 3


@pytest.mark.parametrize("name", ["q", "k"])
def test_queries_and_keys_are_right_up_to_the_pattern_that_they_give(resolver, name):
    """The last layer's attention is all that is not straight, but for what comes behind it."""
    site = resolver.site(name, 2)
    source = Run(IDS, 0.5 * np.random.RandomState(1).randn(1, 6, 64), noised=ALL)
    base = Run(IDS, np.zeros((1, 0, 64)))
    true = swept(resolver, base, source, [Cell((Patch(site, ALL, ALL, (h,)),)) for h in range(2)])[:, 0]
    off = {}
    for method in ("atp", "atp*"):
        found = attribute(resolver, base, source, [site], ALL, ALL, first, method)
        found.drops = {}
        off[method] = np.abs(found.plain[site.name][0].sum(0)[:2] - true).max()
    assert off["atp*"] < off["atp"]


def test_a_cell_is_the_sum_of_what_it_patches(resolver, sites):
    found = attribute(resolver, Run(IDS), Run(OTHER), sites, ALL, ALL, first)
    head, mlp = resolver.site("head", 1), resolver.site("mlp", 0)
    maps = found.maps
    cell = Cell((Patch(head, (1, 2), (1, 2), (0, 3)), Patch(mlp, (5,), (5,))))
    right = maps["layers.1.head"][:, [1, 2]][..., [0, 3]].sum((1, 2)) + maps["layers.0.mlp"][:, 5, 0]
    assert found.of(cell) == pytest.approx(right)
    assert maps["layers.1.neuron"].shape == (1, 6, 96) and maps["layers.1.k"].shape == (1, 6, 2)
    assert maps["layers.1.neuron"].sum(-1) == pytest.approx(maps["layers.1.mlp"][..., 0], abs=1e-4)


def test_only_the_positions_that_are_named_are_patched(resolver, sites):
    base, source = Run(IDS), Run(OTHER[1:])
    chosen = [site for site in sites if site.layer == 1 and site.component != "pattern"]
    found = attribute(resolver, base, source, chosen, (3, 4, 5), (2, 3, 4), first).maps
    assert all(not x[:, :3].any() and x[:, 3:].any() for x in found.values())


def test_several_prompts_are_rows_of_their_own(resolver, sites):
    base, source = Runs((Run(IDS), Run(OTHER))), Runs((Run(OTHER), Run(IDS)))
    both = attribute(resolver, base, source, sites, ALL, ALL, first).maps
    for row, (one, other) in enumerate([(IDS, OTHER), (OTHER, IDS)]):
        alone = attribute(resolver, Run(one), Run(other), sites, ALL, ALL, first).maps
        for name, x in alone.items():
            assert np.allclose(both[name][row], x[0], atol=1e-3), name


def test_noise_either_way_has_a_row_for_each_sample(resolver, sites):
    noised = Run(IDS, np.random.RandomState(1).randn(3, 1, 64), noised=(2,))
    for base, source in ((noised, Run(IDS)), (Run(IDS), noised)):
        for method in METHODS:
            found = attribute(resolver, base, source, sites[:4], ALL, ALL, first, method)
            assert all(x.shape[0] == 3 and np.isfinite(x).all() for x in found.maps.values()), method
            assert found.base.shape == (3,)


def test_parts_that_fit_the_memory_come_to_the_same(resolver, sites):
    whole = attribute(resolver, Run(IDS), Run(OTHER), sites, ALL, ALL, first, "atp*")
    tight = attribute(
        resolver, Run(IDS), Run(OTHER), sites, ALL, ALL, first, "atp*", max_memory=int(0.6 * whole.bytes)
    )
    assert tight.passes > whole.passes
    for name, x in whole.maps.items():
        assert np.allclose(tight.maps[name], x, atol=1e-4), name


def test_drops_have_the_mean_size_and_the_sign_of_what_nothing_is_dropped_from():
    site = Patch(_Site("layers.1.mlp"), (0,), (0,))
    found = Attribution(
        plain={"layers.1.mlp": np.array([[[-0.1]]])},
        base=np.zeros(1),
        drops={"layers.1.mlp": np.array([2.0, np.nan, -4.0])[:, None, None, None]},
    )
    assert (
        found.of(Cell((site,)))[0] == found.maps["layers.1.mlp"][0, 0, 0] == -3
    )  # the dropped layer is its own
    found.plain["layers.1.mlp"][:] = 0
    assert found.of(Cell((site,)))[0] == -3  # by the mean over the drops


class _Site:
    def __init__(self, name):
        self.name = name


def test_effects_that_cancel_are_seen_by_dropping(resolver, sites):
    found = attribute(resolver, Run(IDS), Run(OTHER), sites, ALL, ALL, first, "atp*")
    own = found.drops["layers.1.mlp"]
    assert own.shape[0] == 3 and np.isnan(own[1]).all() and np.isfinite(own[[0, 2]]).all()
    assert np.isfinite(found.drops["layers.1.resid_pre"]).all()
    size = np.abs(own[[0, 2]]).mean(0)
    assert np.abs(found.maps["layers.1.mlp"]) == pytest.approx(size, rel=1e-5)
