"""Cells as rows and as panels, with regions in the place of positions."""

from __future__ import annotations

import numpy as np
import pytest
from test_patching_result import make

from mlxtrace.errors import EngineError
from mlxtrace.results.cells import cells_of, largest, panels_of
from mlxtrace.results.patching_result import PatchingResult


def regions(**changes):
    raw = np.random.default_rng(0).uniform(0.1, 0.9, (2, 3, 2, 4))
    coords = {"component": ["mlp", "attn"], "layer": [0, 1, 2], "region": ["IO", "END"], "head": [0, 1, 2, 3]}
    return make(raw, ("component", "layer", "region", "head"), coords=coords, **changes)


def test_cells_are_in_the_order_of_the_array():
    coords = {"metric": ["a", "b"], "layer": [3, 4], "position": [0, 2]}
    cells = cells_of(("metric", "layer", "position"), coords, "mlp", ["x", "y", "z"])
    assert [(c["layer"], c["position"], c["token"]) for c in cells] == [
        (3, 0, "x"),
        (3, 2, "z"),
        (4, 0, "x"),
        (4, 2, "z"),
    ]
    assert list(cells[0]) == ["component", "layer", "position", "token"]


def test_regions_stand_where_positions_do():
    result = regions()
    row = result.to_rows()[-1]
    assert list(row) == ["component", "layer", "region", "head", "prob", "prob_recovery"]
    assert (row["component"], row["layer"], row["region"], row["head"]) == ("attn", 2, "END", 3)
    assert row["prob_recovery"] == result.sel(component="attn", layer=2, region="END", head=3)
    panels = result.panels()
    assert len(panels) == 8 and panels[6].row_name == "region" and panels[6].rows == ["IO", "END"]
    np.testing.assert_array_equal(panels[6].values, result.sel(component="attn", head=2).T)
    assert "region IO" in repr(
        make([[0.9], [0.2]], ("layer", "region"), coords={"layer": [0, 1], "region": ["IO"]})
    )


def test_regions_are_saved(tmp_path):
    result = regions()
    again = PatchingResult.load(result.save(tmp_path / "regions"))
    assert again.coords == result.coords and repr(again) == repr(result)


def test_panels_by_layer_and_by_head():
    (bars,) = panels_of(
        {"layer": [0, 1, 2], "component": ["mlp", "attn"]}, ["mlp", "attn"], np.arange(6.0).reshape(2, 3)
    )
    assert bars.values.shape == (3, 2) and bars.column_name == "component"
    coords = {"component": ["q", "k"], "layer": [0, 1, 2], "head": [0, 1, 2, 3]}
    maps = panels_of(coords, ["q", "k"], np.zeros((2, 3, 4)), np.ones((2, 3, 4)))
    assert all((m.halves == 1).all() and m.halves.shape == (3, 4) for m in maps) and bars.halves is None
    assert [(m.component, m.row_name, m.column_name) for m in maps] == [
        ("q", "layer", "head"),
        ("k", "layer", "head"),
    ]


def test_positions_and_regions_exclude_each_other():
    with pytest.raises(EngineError, match="not both"):
        make(np.zeros((1, 2, 3)), ("layer", "position", "region"))


def test_of_single_neurons_the_one_that_moves_most_is_shown():
    coords = {"layer": [4, 6], "position": [0, 1, 2], "neuron": list(range(50))}
    values = np.zeros((2, 3, 50))
    values[0, 1, 7], values[0, 1, 9], values[1, 2, 3] = 5.0, -8.0, 2.0
    halves = values * 0.1
    (panel,) = panels_of(coords, ["neuron"], values, halves)
    assert panel.values.shape == (3, 2) and panel.head is None and panel.row_name == "position"
    assert panel.values[1, 0] == -8 and panel.values[2, 1] == 2 and np.count_nonzero(panel.values) == 2
    assert panel.halves[1, 0] == -0.8 and panel.halves[2, 1] == 0.2
    (noised,) = panels_of(coords, ["neuron"], 100 - values, None, no_effect=100.0)
    assert noised.values[1, 0] == 108 and noised.values[0, 0] == 100 and noised.halves is None
    (bars,) = panels_of({"layer": [4, 6], "neuron": list(range(50))}, ["neuron"], values[:, 1])
    assert bars.column_name == "component" and bars.values.tolist() == [[-8.0], [0.0]]
    rows = cells_of(("layer", "position", "neuron"), coords, "neuron", ["a", "b", "c"])
    assert len(rows) == 300
    assert rows[57] == {"component": "neuron", "layer": 4, "position": 1, "token": "b", "neuron": 7}


def test_some_cells_are_those_of_all():
    dims, coords = ("metric", "layer", "position"), {"metric": ["a"], "layer": [3, 5], "position": [0, 2]}
    every = cells_of(dims, coords, "mlp", ["x", "y", "z"])
    assert cells_of(dims, coords, "mlp", ["x", "y", "z"], [3, 0]) == [every[3], every[0]]
    assert cells_of(dims, coords, "mlp", ["x", "y", "z"], []) == []


def test_the_largest_come_first_and_what_is_none_never():
    values = np.array([1.0, np.nan, 3.0, 1.0, -2.0])
    assert largest(values, 3).tolist() == [2, 0, 3] and largest(values, 99).tolist() == [2, 0, 3, 4]
    assert largest(-values, 1).tolist() == [4] and not largest(values, 0).size
