"""Cells of paths: the passes that they share, and those that need none."""

import numpy as np
import pytest
from models import make
from noise import close

from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.engine import path_sweep
from mlxtrace.engine.path_sweep import Graph, PathCell, PathSweep, choose, receivers, senders
from mlxtrace.engine.plan import Engine
from mlxtrace.engine.runs import Run
from mlxtrace.errors import InputError, UnsupportedError

BASE, SOURCE = (3, 17, 90, 91, 52, 60), (3, 17, 40, 41, 52, 60)


def sweep_of(net, base=None, source=None, **options):
    resolver = ModuleResolver(net)
    ends = base or Run(BASE), source or Run(SOURCE)
    engine = options.pop("engine", None) or choose(resolver)
    return PathSweep(resolver, Graph(resolver), *ends, range(6), range(6), engine, **options)


@pytest.fixture(scope="module")
def sweep():
    return sweep_of(make("llama"))


def measure(logits):
    return logits[:, :3].T.astype(np.float64)


def cells_of(sweep, given=None, read=None, at=range(6)):
    ends = senders(sweep.graph, given), receivers(sweep.graph, read)
    return [PathCell(s, r, tuple(at)) for s in ends[0] for r in ends[1]]


@pytest.fixture(scope="module")
def every(sweep):
    return sweep.run(cells_of(sweep), measure, False)


def test_cells_that_are_no_edge_have_the_base_runs_value(sweep, every):
    values = every.values.reshape(3, 16, 28)
    base = every.base
    assert (values[:, ~sweep.graph.upstream] == base).all()
    assert (np.abs(values - base[:, :1, None]).max(0)[sweep.graph.upstream] > 0).mean() > 0.95
    assert every.plan.cells == 448 and every.plan.null_cells == 448 - sweep.graph.upstream.sum()


def test_any_split_into_passes_gives_the_same_numbers(sweep, every, monkeypatch):
    monkeypatch.setattr(path_sweep, "MOST_CELLS", 37)
    monkeypatch.setattr(path_sweep, "TOGETHER", 3)
    again = sweep.run(cells_of(sweep), measure, False)
    assert again.plan.passes == -(-int(sweep.graph.upstream.sum()) // 37) > every.plan.passes
    close(again.values, every.values, sweep.resolver)


def test_all_rows_from_the_tokens_on_give_the_same_numbers(sweep, every):
    flat = sweep_of(sweep.resolver.net, engine=Engine("flat"))
    cells = [c for c in cells_of(sweep) if c.receiver.reads[0].layer == 2]
    where = [i for i, c in enumerate(cells_of(sweep)) if c.receiver.reads[0].layer == 2]
    close(flat.run(cells, measure, False).values, every.values[:, where], sweep.resolver)


def test_positions_before_the_prompts_differ_need_no_row(sweep):
    found = sweep.run(cells_of(sweep, "m0", "k", at=(0, 1)), measure, False)
    assert found.plan.passes == 0 and (found.values == found.base[:, None]).all()
    at_last = cells_of(sweep, "m0", ["m2", "a2.q", "logits"], at=(2, 3, 4))
    assert all(sweep.alive(cell) == () for cell in at_last)
    assert sweep.alive(cells_of(sweep, "m0", "m1")[0]) == (2, 3, 4, 5)
    assert sweep.alive(cells_of(sweep, "m0", "logits")[0]) == (5,)


def test_samples_of_noise_are_rows_of_their_own(sweep):
    noise = np.random.RandomState(0).randn(3, 2, 64) * 0.7
    noisy = sweep_of(sweep.resolver.net, base=Run(SOURCE, noise, (1, 2)), source=Run(SOURCE))
    cells = cells_of(sweep, ["embed", "a0.h1"], ["a2.k", "m1", "logits"])
    found = noisy.run(cells, measure, False).values
    for i in range(3):
        run = Run(SOURCE, noise[i : i + 1], (1, 2))
        alone = sweep_of(sweep.resolver.net, base=run, source=Run(SOURCE)).run(cells, measure, False)
        close(found[:, :, i], alone.values[:, :, 0], sweep.resolver)


def test_too_little_memory_is_said_before_a_pass(sweep):
    small = sweep_of(sweep.resolver.net, max_memory=1000)
    with pytest.raises(InputError, match="max_memory is 1000 bytes, but a single path needs about"):
        small.run(cells_of(sweep, "m0", "m1"), measure, False)
    need = 2 * small._bytes(1)
    little = sweep_of(sweep.resolver.net, max_memory=4 * need).run(
        cells_of(sweep, None, "m2"), measure, False
    )
    assert little.plan.passes > 1


def test_what_cannot_be_run_this_way_is_refused_with_the_reason():
    with pytest.raises(UnsupportedError, match="takes one row at a time: because"):
        sweep_of(make("llama"), engine=Engine("loop", why="because"))
    net = make("llama")
    resolver = ModuleResolver(net)
    graph, engine, mlp = Graph(resolver), choose(resolver), net.model.layers[1].mlp

    class Once(type(mlp)):
        def __call__(self, x):
            if len(x) > 1:
                raise ValueError("no")
            return super().__call__(x)

    mlp.__class__ = Once
    with pytest.raises(UnsupportedError, match="its layers cannot be called again by themselves: no"):
        PathSweep(resolver, graph, Run(BASE), Run(SOURCE), range(6), range(6), engine)
