"""Receivers that see each other: with all of them a sender's output is patched."""

import numpy as np
import pytest
from models import make
from noise import close

from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.engine.batch import Batch
from mlxtrace.engine.live_paths import LivePaths, Patch
from mlxtrace.engine.path_sweep import Graph, PathCell, PathSweep, choose, receivers, senders
from mlxtrace.engine.runs import Run

BASE, SOURCE = (3, 17, 90, 91, 52, 60), (3, 17, 40, 41, 52, 60)


@pytest.fixture(scope="module", params=["llama", "gpt_neox"])
def sweep(request):
    resolver = ModuleResolver(make(request.param))
    runs = Run(BASE), Run(SOURCE)
    return PathSweep(resolver, Graph(resolver), *runs, range(6), range(6), choose(resolver))


def logits(sweep, cells):
    return LivePaths(sweep.edited, sweep.engine).logits(cells)


def cell(sweep, sender, reads, at=range(6)):
    return PathCell(senders(sweep.graph, [sender])[0], receivers(sweep.graph, [reads])[0], tuple(at))


def patched(sweep, component, layer, at=range(6), heads=None):
    site = sweep.resolver.site(component, layer)
    kept = sweep.source.mlps[layer] if component == "mlp" else sweep.source.projected[layer]
    patches = (Patch(site, tuple(at), tuple(at), heads),)
    return Batch(sweep.resolver, sweep.base.run, {False: {site.name: kept}}, [(layer, patches)], 1).run()[1:]


def readers(sweep, index):
    return [r.name for j, r in enumerate(sweep.graph.receivers) if sweep.graph.upstream[index, j]]


@pytest.mark.parametrize("at", [range(6), (3, 5)], ids=["all", "two"])
def test_a_sender_to_all_that_read_it_is_its_output_patched(sweep, at):
    names = [node.name for node in sweep.graph.senders]
    chosen = [("m0", "mlp", 0, None), ("m1", "mlp", 1, None), ("a1.h2", "head", 1, (2,))]
    cells = [cell(sweep, name, readers(sweep, names.index(name)), at) for name, *_ in chosen]
    right = [patched(sweep, component, layer, at, heads) for _, component, layer, heads in chosen]
    close(logits(sweep, cells), np.concatenate(right), sweep.resolver)


def test_one_read_alone_is_an_ordinary_path(sweep):
    cells = [cell(sweep, "m0", [name]) for name in ("a1.h1.k", "a2.h1.q", "m1", "m2", "logits")]
    found = sweep.run(cells, lambda x: x.T.astype(np.float64), False).values[:, :, 0].T
    close(logits(sweep, cells), found, sweep.resolver)


def test_frozen_members_do_not_see_each_other_and_live_ones_do(sweep):
    group = cell(sweep, "m0", ["m1", "a2.v"])

    def run(cells, **how):
        return sweep.run(cells, lambda x: x.T.astype(np.float64), False, **how).values[:, :, 0].T

    frozen, live = run([group]), run([group], live=True)
    assert np.abs(frozen - live).max() > 1e-2
    close(live, logits(sweep, [group]), sweep.resolver)
