"""The grid of cells: positions, components, layers, heads and windows, and where each cell writes and reads."""

import dataclasses

import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel
from mlxtrace.errors import AlignmentError, InputError, PositionError, SubjectError, UnsupportedError
from mlxtrace.experiments import pairs
from mlxtrace.experiments.grid import (
    components_of,
    kind_of,
    make_grid,
    places_of,
    positions_of,
    window_of,
)

CLEAN = [3, 17, 5, 90, 41, 8, 77]
CORRUPTED = [3, 17, 66, 12, 41, 8, 77]
LONGER = [3, 17, 66, 12, 99, 41, 8, 77]


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(models.make("llama", seed=2))


@pytest.fixture(scope="module")
def pair(model):
    return pairs.pair(model, CLEAN, CORRUPTED)


@pytest.fixture(scope="module")
def tails(model):
    """Prompts of two lengths: clean positions 4 to 6 are corrupted positions 5 to 7."""
    return pairs.pair(model, CLEAN, LONGER, align="ends")


def test_positions_by_name_and_number(model):
    read = model.prompt(CLEAN, range(2, 4))
    assert positions_of("each", read) == list(range(7))
    assert positions_of("subject", read) == [2, 3] and positions_of("subject_last", read) == [3]
    assert positions_of("last", read) == [6] and positions_of([-1, 0], read) == [6, 0]
    assert positions_of(np.int64(2), read) == [2]
    with pytest.raises(SubjectError, match="pass subject="):
        positions_of("subject", model.prompt(CLEAN))
    with pytest.raises(InputError, match="closest: subject"):
        positions_of("subjct", read)
    with pytest.raises(PositionError, match="outside"):
        positions_of([7], read)


def test_places_are_paired_positions_only(pair, tails):
    assert places_of(None, pair).groups == [list(range(7))]
    each = places_of("each", pair)
    assert (
        each.groups == [[p] for p in range(7)] and each.labels == list(range(7)) and each.axis == "position"
    )
    assert places_of("subject", pair).groups == [[2, 3]] and places_of("subject", pair).axis is None
    assert places_of(None, tails).groups == [list(tails.of_clean)]
    with pytest.raises(PositionError, match="clean position 0 has no counterpart"):
        places_of([0], tails)


@pytest.mark.parametrize(
    ("within", "groups", "averaged"),
    [
        ("mean", [[2], [3], [4], [5], [6]], [[0], [1], [2], [3], [4]]),
        ("last", [[2], [3], [4], [5], [6]], [[0], [1], [2], [3], [4]]),
        ("together", [[2], [3], [4], [5], [6]], [[0], [1], [2], [3], [4]]),
    ],
)
def test_regions_are_the_roles_of_tokens(pair, within, groups, averaged):
    found = places_of("regions", pair, within)
    assert found.axis == "region" and found.within == within
    assert found.labels == [
        "first subject token",
        "last subject token",
        "first subsequent token",
        "further tokens",
        "last token",
    ]
    assert (found.groups, found.averaged) == (groups, averaged)


def test_tokens_of_a_region_are_averaged_or_patched_together(model):
    pair = dataclasses.replace(
        pairs.pair(model, CLEAN, CORRUPTED), regions={"A": (1, 2), "B": (2, 3), "C": (6,)}
    )
    mean = places_of("regions", pair)
    assert mean.groups == [[1], [2], [3], [6]] and mean.averaged == [[0, 1], [1, 2], [3]]
    values = np.arange(8.0).reshape(2, 4)
    np.testing.assert_array_equal(mean.averages(values, 1), [[0.5, 1.5, 3], [4.5, 5.5, 7]])
    last, together = places_of("regions", pair, "last"), places_of("regions", pair, "together")
    assert last.groups == [[2], [3], [6]] and last.averaged == [[0], [1], [2]]
    assert together.groups == [[1, 2], [2, 3], [6]]
    assert places_of("A", pair).groups == [[1, 2]], "a region by its name is patched together"
    roles = pairs.pair(model, CLEAN, CORRUPTED)
    assert places_of("last subject token", roles).groups == [[3]], "as results print it"
    with pytest.raises(InputError, match="within='first' goes with"):
        places_of("regions", pair, "first")
    with pytest.raises(InputError, match="within='last' goes with"):
        places_of("each", pair, "last")


def test_region_tokens_without_a_counterpart_are_left_out_and_said(tails):
    found = places_of("regions", dataclasses.replace(tails, regions={"A": (0, 6), "B": (0,)}))
    assert found.labels == ["A"] and found.groups == [[6]] and "1 tokens" in found.notes[0]
    with pytest.raises(AlignmentError, match="no region"):
        places_of("regions", dataclasses.replace(tails, regions={"B": (0,)}))


def test_windows_are_centred_and_cut_at_the_edges():
    assert list(window_of(5, 1, 12)) == [5] and list(window_of(5, 3, 12)) == [4, 5, 6]
    assert list(window_of(5, 4, 12)) == [3, 4, 5, 6] and list(window_of(0, 3, 12)) == [0, 1]
    assert list(window_of(11, 4, 12)) == [9, 10, 11]


def test_cells_are_in_the_order_of_the_axes(model, pair):
    grid = make_grid(model, pair, ["mlp", "attn"], [1, 0], "each")
    cells = grid.cells(pair.roles("denoise"))
    found = [(c.patches[0].site.component, c.patches[0].site.layer, c.patches[0].at) for c in cells]
    assert found == [(c, i, (p,)) for c in ("mlp", "attn") for i in (1, 0) for p in range(7)]


@pytest.mark.parametrize(("direction", "ours"), [("denoise", False), ("noise", True)])
def test_cells_write_the_base_run_and_read_the_source_run(model, tails, direction, ours):
    (cell,) = make_grid(model, tails, "mlp", 1, [4, 6]).cells(tails.roles(direction))
    clean, corrupted = (4, 6), (5, 7)
    (patch,) = cell.patches
    assert (patch.at, patch.source_at) == ((clean, corrupted) if ours else (corrupted, clean))


def test_heads_by_default_each_and_together_when_named(model, pair):
    heads = model.n_heads
    assert make_grid(model, pair, "head", 0).heads == [(h,) for h in range(heads)]
    assert make_grid(model, pair, "head", 0, heads=[0, -1]).heads == [(0, heads - 1)]
    assert len(make_grid(model, pair, "k", 0).heads) == model.n_kv_heads
    assert make_grid(model, pair, "mlp", 0).heads is None
    with pytest.raises(InputError, match="heads= goes with"):
        make_grid(model, pair, "mlp", 0, heads=[0])
    with pytest.raises(InputError, match="two calls"):
        make_grid(model, pair, ["mlp", "head"], 0)


def test_a_window_is_part_of_the_cell(model, pair):
    grid = make_grid(model, pair, "mlp", [1], window=np.int64(3))
    assert grid.windows == {"mlp": 3} and type(grid.windows["mlp"]) is int
    (cell,) = grid.cells(pair.roles("denoise"))
    assert [p.site.layer for p in cell.patches] == list(window_of(1, 3, model.n_layers))


def test_components_have_windows_of_their_own(model, pair):
    names = ["resid_post", "mlp", "attn"]
    grid = make_grid(model, pair, names, [1], window={"mlp": 3, "self_attn": 2})
    cells = grid.cells(pair.roles("denoise"))
    assert [len(cell.patches) for cell in cells] == [1, 3, 2]
    auto = make_grid(model, pair, names, [1], window="auto")
    assert auto.windows == {"resid_post": 1, "mlp": 1, "attn": 1}  # 10 of 48 layers is 1 of these few
    for window, says in (
        ({"head": 3}, "'head' is not patched"),
        ({"mlp": 0}, "window is a whole number"),
        ({3: 1}, "3 is not patched"),
        ("all", "window is a whole number"),
        (None, "window is a whole number"),
    ):
        with pytest.raises(InputError, match=says):
            make_grid(model, pair, names, window=window)


def test_a_pattern_wants_prompts_of_one_length(model, tails):
    with pytest.raises(AlignmentError, match="7 and 8 tokens"):
        make_grid(model, tails, "pattern")


def test_kinds_of_a_trace():
    assert kind_of("kind", None) is None and kind_of("kind", "self_attn") == kind_of("kind", "attn") == "attn"
    for wrong in ("head", 3, ["mlp"], ""):
        with pytest.raises(InputError, match="severed="):
            kind_of("severed", wrong)


def test_components_go_by_their_own_names():
    assert components_of(["output", "self_attn"]) == ["resid_post", "attn"]
    with pytest.raises(InputError, match="closest"):
        components_of("mpl")


def test_single_neurons_are_units_of_the_grid(model, pair):
    n = model.resolver.neuron_count(0)
    assert make_grid(model, pair, "neuron").neurons is None  # all together
    assert make_grid(model, pair, "neuron", neurons="each").neurons == [(j,) for j in range(n)]
    assert make_grid(model, pair, "neuron", neurons=-1).neurons == [(n - 1,)]
    grid = make_grid(model, pair, "neuron", [0, 2], positions="each", neurons=[5, 3])
    cells = grid.cells(pair.roles("denoise"))
    assert len(cells) == 2 * len(CLEAN) and all(patch.heads == (5, 3) for c in cells for patch in c.patches)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"component": "mlp", "neurons": "each"}, "goes with component='neuron' by itself, not with mlp"),
        ({"component": ["neuron", "mlp"], "neurons": 3}, "by itself, not with neuron, mlp"),
        ({"component": "head", "neurons": 3}, "by itself, not with head"),
        ({"neurons": "each", "window": 2}, "leave window out"),
        ({"neurons": 96}, "neuron 96 does not exist: this model has neurons 0 to 95"),
        ({"neurons": "all"}, "whole numbers, not 'all'"),
        ({"neurons": True}, "whole numbers"),
        ({"neurons": []}, "at least one neuron"),
        ({"neurons": [2, 2]}, "each once"),
        ({"heads": 2}, "heads= goes with"),
    ],
)
def test_neurons_that_cannot_be_meant(model, pair, options, says):
    with pytest.raises((InputError, PositionError), match=says):
        make_grid(model, pair, **{"component": "neuron", **options})


def test_layers_with_other_numbers_of_neurons(pair):
    wider = InterpretableModel(models.make("gemma4_text"))
    counts = {wider.resolver.neuron_count(i): i for i in range(wider.n_layers)}
    assert len(counts) == 2
    with pytest.raises(InputError, match="96 at layer 0, 96 at layer 1, 192 at layer 2, 192 at layer 3"):
        make_grid(wider, pairs.pair(wider, CLEAN, CORRUPTED), "neuron", neurons="each")
    for n, layer in counts.items():
        grid = make_grid(wider, pairs.pair(wider, CLEAN, CORRUPTED), "neuron", layer, neurons="each")
        assert len(grid.units) == n


def test_models_without_neurons_say_why():
    experts = InterpretableModel(models.make("mixtral"))
    with pytest.raises(UnsupportedError, match="experts"):
        make_grid(experts, pairs.pair(experts, CLEAN, CORRUPTED), "neuron", neurons="each")
