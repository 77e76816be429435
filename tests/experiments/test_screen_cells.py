"""All cells of a screen as arrays: where each is, what gradients say of it, and what its sweep gives."""

import models
import numpy as np
import pytest

from mlxtrace import GaussianNoise, InterpretableModel
from mlxtrace.engine.attribution import attribute
from mlxtrace.experiments.pair_sets import grids_of, read_pairs
from mlxtrace.experiments.screen import _grids
from mlxtrace.experiments.screen_cells import ScreenCells
from mlxtrace.experiments.sweeps import sweep_of
from mlxtrace.prompts import Pair

CLEAN = [3, 17, 5, 90, 41, 8, 77]
CORRUPTED = [3, 17, 66, 12, 41, 8, 77]


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(models.make("llama", seed=2))


def cells_of(
    model, given, components, positions="each", heads=None, within=None, layers=None, direction="denoise"
):
    made = read_pairs(model, *given)
    grids = [grids_of(model, made, g, positions, within) for g in _grids(model, components, layers, heads)]
    return ScreenCells(model, made, grids, direction)


def by_logit(logits):
    return logits[:, 7]


def test_every_cell_has_a_place_of_its_own(model):
    cells = cells_of(model, (CLEAN, CORRUPTED), ["mlp", "head", "neuron"])
    assert len(cells) == 3 * 7 * (1 + 4 + 96)
    rows = [cells.row(i, [str(t) for t in CLEAN]) for i in range(len(cells))]
    assert len({tuple(row.items()) for row in rows}) == len(cells)
    assert rows[0] == {"component": "mlp", "layer": 0, "position": 0, "token": "3"}
    assert rows[-1] == {"component": "neuron", "layer": 2, "neuron": 95, "position": 6, "token": "77"}
    heads = cells_of(model, (CLEAN, CORRUPTED), ["head"], None, [0, 2])
    assert [heads.row(i, []) for i in range(2)] == [
        {"component": "head", "layer": i, "head": [0, 2]} for i in (0, 1)
    ]


@pytest.mark.parametrize("method", ["atp", "atp*", "ig"])
@pytest.mark.parametrize("positions", ["each", None, [2, 6]])
def test_estimates_are_those_of_each_cell(model, method, positions):
    components = ["resid_mid", "k", "neuron"]
    cells = cells_of(model, (CLEAN, CORRUPTED), components, positions, direction="noise")
    found = cells.estimated(0, dict.fromkeys(components, method), {method: by_logit})
    roles, at = cells.roles[0], list(range(7))
    sites = [site for block in cells.blocks for of in block.grids[0].sites.values() for site in of]
    right = attribute(model.resolver, roles.base, roles.source, sites, at, at, by_logit, method)
    random = np.random.RandomState(0).permutation(len(cells))[:25].tolist()
    (job,) = cells.jobs(random)
    assert found[random] == pytest.approx([right.of(cell)[0] for cell in job.cells], rel=1e-5, abs=1e-7)


def test_cells_that_can_differ_are_those_that_a_sweep_runs(model):
    cells = cells_of(model, (CLEAN, CORRUPTED), ["mlp", "v", "neuron"])
    live = cells.live(0)
    (job,) = cells.jobs(range(len(cells)))
    plan = sweep_of(model, job.base, job.source, job.cells).plan()
    assert live.sum() == plan.cells - plan.null_cells < len(cells)
    dead = [cells.row(i, CLEAN) for i in np.flatnonzero(~live)]
    assert all(row["position"] < 2 or row["layer"] == 2 for row in dead)


@pytest.mark.parametrize("within", ["mean", "last", "together"])
def test_regions_that_some_pairs_lack(model, within):
    pairs = [
        Pair(CLEAN, CORRUPTED, regions={"early": [2, 3], "late": [5, 6]}, id="a"),
        Pair(CLEAN[1:], [9, *CLEAN[2:]], regions={"late": [4, 5]}, id="b"),
    ]
    options = {"component": "mlp", "positions": "regions", "within": within, "metric": "logit", "target": 7}
    right = model.activation_patching(pairs, progress=False, **options)
    cells = cells_of(model, (pairs,), ["mlp"], "regions", None, within)
    assert {cells.row(i, [])["region"] for i in range(len(cells))} == set(right.coords["region"])
    chosen, values = list(range(len(cells))), []
    for job in cells.jobs(chosen):
        outcome = sweep_of(model, job.base, job.source, job.cells).run(
            lambda x: x[None, :, 7].astype(float), False
        )
        values.append(outcome.values[0].mean(-1))
    found = cells.effects(chosen, values)
    for i in chosen:
        row = cells.row(i, [])
        place = right.coords["layer"].index(row["layer"]), right.coords["region"].index(row["region"])
        for pair in range(2):
            assert found[pair, i] == pytest.approx(right.per_pair[pair][place], abs=1e-5, nan_ok=True)
    estimates = cells.estimated(1, {"mlp": "atp"}, {"atp": by_logit})
    assert (np.isnan(estimates) == np.isnan(found[1])).all() and np.isnan(estimates).any()


def test_noise_has_a_row_for_each_sample(model):
    noise = GaussianNoise(subject=[2, 3], samples=3)
    cells = cells_of(model, (CLEAN, noise), ["neuron"], "each", layers=[1])
    found = cells.estimated(0, {"neuron": "atp"}, {"atp": by_logit})
    roles, site = cells.roles[0], model.resolver.site("neuron", 1)
    right = attribute(model.resolver, roles.base, roles.source, [site], range(7), range(7), by_logit, "atp")
    assert right.maps[site.name].shape == (3, 7, 96)
    assert found == pytest.approx(right.maps[site.name].mean(0).reshape(-1), abs=1e-7)
