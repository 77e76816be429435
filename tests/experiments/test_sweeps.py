"""Sweeps as experiments ask for them: the engine by name, base and source the right way round, notes on the cells."""

import warnings

import models
import numpy as np
import pytest
from noise import close

from mlxtrace import InterpretableModel
from mlxtrace.errors import InputError
from mlxtrace.experiments import pairs, sweeps
from mlxtrace.experiments.grid import make_grid
from mlxtrace.experiments.sweeps import (
    Job,
    Run,
    chunks_of,
    logits_of,
    notes_of,
    plan_of,
    sweep_of,
    sweep_pairs,
)

CLEAN = [3, 17, 5, 90, 41, 8, 77]
CORRUPTED = [3, 17, 66, 12, 41, 8, 77]


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(models.make("llama", seed=2))


@pytest.mark.parametrize("engine", ["auto", "flat", "loop"])
def test_the_base_run_is_patched_with_the_source_runs_activations(model, engine):
    pair = pairs.pair(model, CLEAN, CORRUPTED)
    grid = make_grid(model, pair, "resid_post", 1)
    for direction in pairs.DIRECTIONS:
        roles = pair.roles(direction)
        sweep = sweep_of(model, roles.base, roles.source, grid.cells(roles), engine)
        base, source = sweep.begin()
        close(base, logits_of(model, roles.base), model)
        outcome = sweep.run(lambda rows: rows.T.astype(np.float64), progress=False)
        close(outcome.values[:, 0, 0], source[0], model)  # all of the stream
        clean, corrupted = roles.clean_first(base, source)
        close(clean, logits_of(model, pair.clean), model)
        close(corrupted, logits_of(model, pair.corrupted), model)


def test_an_engine_that_there_is_not(model):
    with pytest.raises(InputError, match="unknown"):
        sweep_of(model, Run(tuple(CLEAN)), Run(tuple(CORRUPTED)), [], "fast")


def test_notes_are_on_the_sites_of_the_cells(model, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "mlxtrace.experiments.caveats.cautions", lambda resolver, sites: seen.extend(sites) or ["careful"]
    )
    pair = pairs.pair(model, CLEAN, CORRUPTED)
    cells = make_grid(model, pair, "mlp", [0, 1]).cells(pair.roles("denoise"))
    assert notes_of(model, cells) == ["careful"]
    assert seen == [("mlp", 0), ("mlp", 1)]


# ---- many pairs


def jobs_of(model, direction="denoise"):
    """Pairs of three shapes, those of one shape apart from each other, with other positions in each."""
    jobs = []
    for i, length in enumerate((7, 5, 7, 7, 5, 6)):
        clean = [(t + 5 * i) % model.vocab_size for t in CLEAN[:length]]
        corrupted = [*clean[:2], (clean[2] + 1) % model.vocab_size, *clean[3:]]
        pair = pairs.pair(model, clean, corrupted)
        roles = pair.roles(direction)
        cells = make_grid(model, pair, "resid_post", None, [2 + i % 3]).cells(roles)
        jobs.append(Job(roles.base, roles.source, cells))
    return jobs


def swept(model, jobs, **options):
    """Both ways, with a measure of its own for each pair, and what each was settled with."""
    settled = {}

    def settle(i, base, source):
        settled[i] = base, source
        return lambda rows: rows[:, [i, 2 * i]].T.astype(np.float64)

    together = sweep_pairs(model, jobs, settle, False, **options)
    alone = [sweep_of(model, job.base, job.source, job.cells).run(settle(-1, 0, 0), False) for job in jobs]
    for i, job in enumerate(jobs):
        alone[i] = sweep_of(model, job.base, job.source, job.cells).run(together[i][0], False)
        for found, run in zip(settled[i], (job.base, job.source), strict=True):
            np.testing.assert_allclose(found, logits_of(model, run), atol=1e-4)
    return together, alone


def held_against(together, alone):
    for (_, outcome), right in zip(together, alone, strict=True):
        for name in ("values", "base", "source"):
            np.testing.assert_allclose(getattr(outcome, name), getattr(right, name), atol=1e-4)


@pytest.mark.parametrize("direction", pairs.DIRECTIONS)
def test_many_pairs_give_the_numbers_of_each(model, direction):
    jobs = jobs_of(model, direction)
    assert sorted(chunk.numbers for chunk in chunks_of(model, jobs)) == [[0, 2, 3], [1, 4], [5]]
    together, alone = swept(model, jobs)
    held_against(together, alone)
    plan = together[0][1].plan
    assert plan.cells == sum(len(job.cells) for job in jobs) and plan.elapsed > 0
    assert plan.passes == plan_of(model, jobs).passes < sum(outcome.plan.passes for outcome in alone)


def test_a_chunk_is_as_many_pairs_as_fit(model, monkeypatch):
    jobs = jobs_of(model)
    alone = max(sweep_of(model, job.base, job.source, job.cells).plan().bytes for job in jobs)
    little = int(alone * 0.9)
    chunks = chunks_of(model, jobs, max_memory=little)
    assert [0, 2, 3] not in [chunk.numbers for chunk in chunks]
    held_against(*swept(model, jobs, max_memory=little))
    assert plan_of(model, jobs, max_memory=little).bytes <= little
    monkeypatch.setattr(sweeps, "MOST_PAIRS", 1)
    assert [chunk.numbers for chunk in chunks_of(model, jobs)] == [[0], [2], [3], [1], [4], [5]]
    held_against(*swept(model, jobs))


def test_too_little_memory_is_refused_before_anything_is_settled(model):
    with pytest.raises(InputError, match="max_memory"):
        sweep_pairs(model, jobs_of(model), lambda *_: pytest.fail(), False, max_memory=1000)


def test_one_bar_counts_the_cells_of_all(model, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, total, disable, **_):
            self.total, self.done, self.hidden = total, 0, disable
            bars.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, n):
            self.done += n

    monkeypatch.setattr("mlxtrace.engine.sweep.tqdm", Bar)
    jobs = jobs_of(model)
    sweep_pairs(model, jobs, lambda *_: lambda rows: rows[:, :1].T, True)
    assert len(bars) == 1 and not bars[0].hidden
    assert bars[0].done == bars[0].total == sum(len(job.cells) for job in jobs)


def test_pairs_whose_first_layers_hold_no_cells_warn_of_nothing():
    """Some layers have no rows to run sparsely; a mean over none of them is a warning of NumPy's."""
    demo = InterpretableModel("demo")
    here, there = "The Eiffel Tower is located in", "The Colosseum is located in"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        demo.causal_effects([here, there], [there, here], positions="last", progress=False)
