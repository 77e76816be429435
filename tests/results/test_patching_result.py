"""Patching results: a mapping where they can be one, rows, panels."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from mlxtrace.errors import InputError, SiteError
from mlxtrace.results.patching_result import PatchingResult
from mlxtrace.results.saved import Answer

CLEAN, CORRUPTED = 0.9, 0.1


def make(raw, dims=("layer",), **changes):
    raw = np.asarray(raw, dtype=float)
    sizes = dict(zip(dims, raw.shape, strict=False))
    metrics = ["prob", "kl"][: sizes.get("metric", 1)]
    components = ["mlp", "attn"][: sizes.get("component", 1)]
    coords = {d: list(range(n)) for d, n in sizes.items()}
    coords |= {d: v for d, v in (("metric", metrics), ("component", components)) if d in dims}
    arguments = dict(
        raw=raw,
        dims=dims,
        coords=coords,
        clean=dict(zip(metrics, (CLEAN, 0.0), strict=False)),
        corrupted=dict(zip(metrics, (CORRUPTED, 4.0), strict=False)),
        metrics=metrics,
        components=components,
        target=Answer(5, " Paris", CLEAN, CORRUPTED),
        foil=Answer(6, " Rome", 0.01, 0.8),
        tokens=["The", " Eiffel", " Tower", " in"],
        corrupted_tokens=["The", " Colos", "seum", " in"],
        subject_range=range(1, 3),
        direction="denoise",
        window=1,
        plan=SimpleNamespace(to_dict=lambda: {"cells": 3, "engine": "loop"}),
        clean_text="The Eiffel Tower in",
        corrupted_text="The Colosseum in",
        model="demo",
    )
    return PatchingResult(**(arguments | changes))


def layers():
    return make([0.1, 0.5, 0.02, 0.9])


def full():
    raw = np.random.default_rng(0).uniform(0.1, 0.9, (2, 2, 3, 4, 5))
    return make(raw, ("component", "metric", "layer", "position", "head"))


def test_one_number_per_layer_is_a_mapping():
    result = layers()
    assert dict(result) == pytest.approx({0: 0, 1: 50, 2: -10, 3: 100})
    assert max(result, key=result.get) == 3 and set(result.keys()) == {0, 1, 2, 3} and len(result) == 4
    assert [layer for layer, _ in sorted(result.items(), key=lambda x: x[1], reverse=True)] == [3, 1, 0, 2]
    assert result.get(9, 0) == 0 and 9 not in result and result[np.int64(1)] == pytest.approx(50)
    assert type(result[1]) is float and result
    with pytest.raises(SiteError, match="0-3"):
        result[9]


def test_labels_not_places_are_the_keys():
    result = make([0.1, 0.9], coords={"layer": [4, 9]})
    assert dict(result) == pytest.approx({4: 0, 9: 100}) and 0 not in result


@pytest.mark.parametrize("use", [list, dict, lambda r: r[0], lambda r: r.get(0), lambda r: 0 in r])
def test_a_map_is_no_mapping_and_says_so(use):
    result = make(np.full((3, 4), 0.3), ("layer", "position"))
    assert result and len(result) == 3 and result == result and result != layers()
    with pytest.raises(InputError, match=r"layer x position.*\.recovery"):
        use(result)


def test_rows_hold_every_cell_once_with_all_metrics():
    result = full()
    rows = result.to_rows()
    assert len(rows) == 2 * 3 * 4 * 5 and json.dumps(rows)
    keys = ["component", "layer", "position", "token", "head", "prob", "prob_recovery", "kl", "kl_recovery"]
    assert list(rows[0]) == keys
    (row,) = [r for r in rows if (r["component"], r["layer"], r["position"], r["head"]) == ("attn", 2, 1, 4)]
    assert row["token"] == " Eiffel" and row["prob"] == result.raw[1, 0, 2, 1, 4]
    assert row["kl_recovery"] == result.sel(component="attn", metric="kl", layer=2, position=1, head=4)
    assert list(layers().to_rows()[0]) == ["component", "layer", "prob", "prob_recovery"]


def test_rows_say_the_window_where_components_differ_in_it():
    raw, windows = np.full((2, 3), 0.5), {"mlp": 1, "attn": 4}
    result = make(raw, ("component", "layer"), window=4, settings={"windows": windows})
    rows = [(row["component"], row["window"]) for row in result.to_rows()]
    assert rows == [("mlp", 1)] * 3 + [("attn", 4)] * 3
    assert all("window" not in row for row in make(raw, ("component", "layer"), window=4).to_rows())


def test_top_is_what_moves_most_in_the_experiment_s_direction():
    assert [r["layer"] for r in layers().top(2)] == [3, 1]
    assert [r["layer"] for r in make([0.1, 0.5, 0.02, 0.9], direction="noise").top(2)] == [2, 0]


def test_panels_follow_the_labels():
    result = full()
    panels = result.panels("kl")
    assert [(p.component, p.head) for p in panels] == [(c, h) for c in ("mlp", "attn") for h in range(5)]
    np.testing.assert_array_equal(panels[7].values, result.sel(component="attn", metric="kl", head=2).T)
    assert panels[7].rows == [0, 1, 2, 3] and panels[7].columns == [0, 1, 2]
    raw = np.random.default_rng(1).uniform(0, 1, (2, 3))
    (both,) = make(raw, ("component", "layer")).panels()
    assert both.columns == ["mlp", "attn"] and both.values[2, 1] == pytest.approx(
        (raw[1, 2] - 0.1) / 0.8 * 100
    )
    heads = make(np.zeros((3, 5)), ("layer", "head")).panels()[0]
    assert heads.values.shape == (3, 5) and (heads.row_name, heads.column_name) == ("layer", "head")
    with pytest.raises(InputError, match="closest: prob"):
        result.panels("pro")
