"""Results: a mapping where it can be one, labelled everywhere, and files that are whole or absent."""

import csv
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

from mlxtrace.errors import EffectError, EngineError, InputError, LoadError, SiteError
from mlxtrace.plotting.labels import text_bar
from mlxtrace.results.patching_result import Answer, PatchingResult
from mlxtrace.storage import load_arrays, save_arrays, write_atomic

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


def test_recovery_per_metric_and_its_labels():
    result = full()
    assert result.recovery.shape == result.raw.shape
    np.testing.assert_allclose(result.recovery[:, 0], (result.raw[:, 0] - 0.1) / 0.8 * 100)
    np.testing.assert_allclose(result.recovery[:, 1], (4 - result.raw[:, 1]) / 4 * 100)
    assert result.clean == {"prob": CLEAN, "kl": 0.0} and layers().corrupted == CORRUPTED
    np.testing.assert_array_equal(
        result.sel(component="attn", metric="kl", layer=2), result.recovery[1, 1, 2]
    )


@pytest.mark.parametrize(
    "labels,says", [({"layer": 7}, "closest"), ({"token": 1}, "dims are"), ({"head": 5}, "head 5")]
)
def test_sel_refuses_what_is_not_there(labels, says):
    for k in (-1, 1.5, True, None):
        with pytest.raises(InputError, match="k is a whole number"):
            full().top(k)
    with pytest.raises(SiteError, match=says):
        full().sel(**labels)


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


@pytest.mark.parametrize(
    "raw,dims,changes,error",
    [
        ([0.1, np.nan], ("layer",), {}, EngineError),
        ([0.1, 0.2], ("layer",), {"coords": {"layer": [0]}}, EngineError),
        ([[0.1, 0.2]], ("position", "layer"), {}, EngineError),
        ([[0.1], [0.2]], ("component", "layer"), {"components": ["mlp"]}, EngineError),
        ([0.1, 0.2], ("layer",), {"components": ["mlp", "attn"]}, EngineError),
        ([0.1, 0.2], ("layer",), {"clean": {"prob": CORRUPTED}}, EffectError),
    ],
)
def test_results_that_mean_nothing_cannot_be_made(raw, dims, changes, error):
    with pytest.raises(error):
        make(raw, dims, **changes)


def test_repr_shows_runs_answers_numbers_and_signed_bars():
    text = repr(layers())
    assert "Restoring the MLP output (whole sequence)" in text
    assert (
        'The Eiffel Tower in → " Paris" 0.90' in text
        and 'The Colosseum in → " Rome" 0.80, " Paris" 0.10' in text
    )
    bars = {int(line.split()[0]): line for line in text.splitlines() if line.strip()[:1].isdigit()}
    assert "50.0" in bars[1] and bars[3].count("█") > bars[1].count("█") > 0 == bars[0].count("█")
    assert "-10.0" in bars[2] and bars[2].index("▒") < bars[1].index("█")  # to the left of zero
    strongest = full().top(1)[0]
    assert f"layer {strongest['layer']}, head {strongest['head']}, position" in repr(full())
    noise = make([0.1] * 4, direction="noise", window=3, settings={"positions": "subject_last"})
    assert "Corrupting the MLP output (last subject token, 3 layers at a time)" in repr(noise)


def test_a_map_prints_its_tokens_with_the_subject_and_the_difference_marked():
    raw = np.full((3, 4), CORRUPTED)
    raw[1, 2] = CLEAN
    lines = repr(make(raw, ("layer", "position"))).splitlines()
    (row,) = [x for x in lines if " Tower → seum*" in x]
    assert row.endswith("·█·")
    assert not any("*" in x for x in lines if x.strip().startswith("3"))


def test_text_bar_is_anchored_at_zero():
    assert text_bar(10, 0, 10, 8) == "█" * 8 and text_bar(0, -1, 1, 8) == " " * 4
    assert text_bar(-5, -5, 5, 8) == "▒" * 4 and text_bar(5, -5, 5, 8) == "    ████"


def test_html_escapes_and_has_every_number():
    page = make(np.full((3, 4), 0.5), ("layer", "position"), tokens=["<b>", "&", "$", "\n"])._repr_html_()
    assert page.count(">50.0<") == 12 and "&lt;b&gt;" in page and "<b> *" not in page


@pytest.mark.parametrize(
    "result", [layers(), full(), make([[0.2, 0.3]], ("layer", "position"), foil=None, target=None)]
)
def test_round_trip_is_exact(result, tmp_path):
    path = result.save(tmp_path / "result")
    assert path.name == "result.npz" and os.listdir(tmp_path) == ["result.npz"]
    back = PatchingResult.load(path)
    np.testing.assert_array_equal(back.raw, result.raw)
    np.testing.assert_array_equal(back.recovery, result.recovery)
    assert back.plan == {"cells": 3, "engine": "loop"} and repr(back) == repr(result)
    for name in (
        "dims",
        "coords",
        "clean",
        "corrupted",
        "target",
        "foil",
        "tokens",
        "subject_range",
        "settings",
    ):
        assert getattr(back, name) == getattr(result, name), name
    assert result.target is None or int(back.target) == 5


def test_any_suffix_is_kept(tmp_path):
    assert PatchingResult.load(layers().save(tmp_path / "a.trace")).raw.shape == (4,)
    assert os.listdir(tmp_path) == ["a.trace"]


def test_load_refuses_other_files(tmp_path):
    whole = layers().save(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "text.npz").write_text("hello")
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    save_arrays(tmp_path / "bare.npz", "PatchingResult", {}, {"raw": np.zeros(2)})
    for name in (
        "half.npz",
        "empty.npz",
        "text.npz",
        "array.npy",
        "foreign.npz",
        "bare.npz",
        "none.npz",
        ".",
    ):
        with pytest.raises(LoadError):
            PatchingResult.load(tmp_path / name)
    other = save_arrays(tmp_path / "other.npz", "CausalTrace", {"a": 1}, {"scores": np.eye(2)})
    with pytest.raises(LoadError, match="holds a CausalTrace"):
        PatchingResult.load(other)
    header, arrays = load_arrays(other, "CausalTrace")
    assert header == {"a": 1} and (arrays["scores"] == np.eye(2)).all()


def test_csv_and_json(tmp_path):
    result = full()
    lines = list(csv.DictReader(result.to_csv(tmp_path / "a.csv").open(encoding="utf-8")))
    assert len(lines) == 120 and float(lines[7]["kl"]) == result.to_rows()[7]["kl"]
    data = json.loads(result.to_json(tmp_path / "a.json").read_text(encoding="utf-8"))
    assert data["rows"] == result.to_rows() and data["target"]["text"] == " Paris"


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(failing, tmp_path, monkeypatch):
    path = tmp_path / "kept.npz"
    write_atomic(path, b"old")

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["kept.npz"]


def test_where_nothing_can_be_written(tmp_path):
    for bad in (tmp_path, tmp_path / "missing" / "a.npz"):
        with pytest.raises(InputError, match="folder"):
            write_atomic(bad, b"")
    for nameless in (None, 3, "", "a\0.npz"):
        with pytest.raises(InputError, match="named by"):
            write_atomic(nameless, b"")
        with pytest.raises(InputError, match="named by"):
            full().save(nameless)
