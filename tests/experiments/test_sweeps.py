"""Sweeps as experiments ask for them: the engine by name, base and source the right way round, notes on the cells."""

import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel
from mlxtrace.errors import InputError
from mlxtrace.experiments import pairs
from mlxtrace.experiments.grid import make_grid
from mlxtrace.experiments.sweeps import Run, logits_of, notes_of, sweep_of

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
        np.testing.assert_allclose(base, logits_of(model, roles.base), atol=1e-5)
        outcome = sweep.run(lambda rows: rows.T.astype(np.float64), progress=False)
        np.testing.assert_allclose(outcome.values[:, 0, 0], source[0], atol=5e-5)  # all of the stream
        clean, corrupted = roles.clean_first(base, source)
        np.testing.assert_allclose(clean, logits_of(model, pair.clean), atol=1e-5)
        np.testing.assert_allclose(corrupted, logits_of(model, pair.corrupted), atol=1e-5)


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
