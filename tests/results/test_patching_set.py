"""Sets of pairs (one: `test_patching_result.py`): every number in plain loops, what is refused, printing, files."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from test_patching_result import make

from mlxtrace.errors import EffectError, InputError, LoadError
from mlxtrace.results.patching_result import PatchingResult
from mlxtrace.results.patching_set import PatchingSet
from mlxtrace.results.saved import Answer

REGIONS = ["first", "middle", "last"]
SIZES = {"component": 2, "metric": 2, "layer": 4, "head": 3, "region": 3}


def single(rng, dims=("layer",), own=REGIONS, gap=None, **changes):
    """One pair's result; with regions, those that it has: in whatever order."""
    shape = [len(own) if dim == "region" else SIZES[dim] for dim in dims]
    metrics, ends = ["prob", "kl"][: 2 if "metric" in dims else 1], [(0.9, 0.1), (0.0, 4.0)]
    scale = rng.uniform(0.5, 1.5) if gap is None else gap
    clean = {m: b + scale * (a - b) for m, (a, b) in zip(metrics, ends, strict=False)}
    corrupted = {m: b for m, (_, b) in zip(metrics, ends, strict=False)}
    more = {"coords": {**make(np.zeros(shape), dims).coords, "region": own}} if "region" in dims else {}
    more = {**more, "clean": clean, "corrupted": corrupted, **changes}
    return make(rng.uniform(0, 1, shape), dims, **more)


def a_set(dims=("layer",), n=7, seed=0, lacking=(), **changes):
    rng = np.random.default_rng(seed)
    own = [[r for r in REGIONS if i not in lacking or r != "middle"] for i in range(n)]
    singles = [single(rng, dims, own[i], **changes) for i in range(n)]
    return PatchingSet(singles, [f"p{i}" for i in range(n)])


def by_hand(singles, labels):
    """Mean, recovery, its half-width and the number of pairs of the cell with these labels, in plain loops."""
    metric = labels.get("metric", "prob")
    xs, gaps, raws = [], [], []
    for one in singles:
        if any(label not in one.coords[dim] for dim, label in labels.items()):
            continue
        raw = one.raw[tuple(one.coords[dim].index(labels[dim]) for dim in one.dims)]
        raws.append(raw)
        xs.append(raw - one._corrupted[metric])
        gaps.append(one._clean[metric] - one._corrupted[metric])
    n, ratio = len(xs), sum(xs) / sum(gaps)
    squares = sum((x - ratio * gap) ** 2 for x, gap in zip(xs, gaps, strict=True))
    half = 1.96 * math.sqrt(n / (n - 1) * squares) / abs(sum(gaps)) if n > 1 else math.nan
    return sum(raws) / n, 100 * ratio, 100 * half, n


@pytest.mark.parametrize(
    "dims,lacking",
    [
        (("layer",), ()),
        (("component", "layer"), ()),
        (("metric", "layer", "head"), ()),
        (("layer", "region"), (0, 2, 3)),
        (("layer", "region"), (0, 1, 2, 3, 4, 5)),
        (("component", "metric", "layer", "region", "head"), (1, 4)),
    ],
)
def test_every_number_by_hand(dims, lacking):
    found = a_set(dims, lacking=lacking)
    arrays = (found.raw, found.recovery, found.interval, found.n)
    for cell in np.ndindex(found.raw.shape):
        labels = {dim: found.coords[dim][i] for dim, i in zip(dims, cell, strict=True)}
        np.testing.assert_allclose([a[cell] for a in arrays], by_hand(found.singles, labels), rtol=1e-10)
    np.testing.assert_array_equal(found.low, found.recovery - found.interval)
    np.testing.assert_array_equal(found.high, found.recovery + found.interval)
    assert found.per_pair.shape == (7, *found.raw.shape)


def test_without_missing_cells_it_is_the_recovery_of_the_means():
    found = a_set(("layer", "head"))
    expected = 100 * (found.raw - found.corrupted) / (found.clean - found.corrupted)
    np.testing.assert_allclose(found.recovery, expected)
    assert found.clean == pytest.approx(np.mean([s.clean for s in found.singles]))
    own = np.mean([s.recovery for s in found.singles], 0)
    assert np.abs(own - found.recovery).max() > 1  # and no mean of recoveries


def test_noise_and_a_set_in_another_order_change_no_number():
    found = a_set(direction="noise")
    again = PatchingSet(found.singles[::-1], found.ids[::-1])
    np.testing.assert_allclose(again.interval, found.interval)
    np.testing.assert_allclose(again.recovery, found.recovery)
    assert found.no_effect == 100 and dict(found) == pytest.approx(dict(again))
    assert found.top(1)[0]["layer"] == min(found, key=found.get)


def test_regions_are_put_by_name_and_not_by_place():
    rng = np.random.default_rng(1)
    turned = [single(rng, ("layer", "region"), own) for own in (["last", "first"], REGIONS, ["middle"])]
    found = PatchingSet(turned, ["a", "b", "c"])
    assert sorted(found.coords["region"]) == sorted(REGIONS)
    for one, values in zip(turned, found.per_pair, strict=True):
        for region in found.coords["region"]:
            mine = values[:, found.coords["region"].index(region)]
            there = region in one.coords["region"]
            expected = one.raw[:, one.coords["region"].index(region)] if there else np.full(4, np.nan)
            np.testing.assert_array_equal(mine, expected)
    whole = a_set(("layer", "region"), lacking=(0, 1))
    assert whole.coords["region"] == REGIONS  # in the order of the prompt, though the first pair lacks one


def test_one_pair_is_a_set_of_one():
    (one,) = a_set(n=1).singles
    found = PatchingSet([one], ["only"])
    np.testing.assert_allclose(found.recovery, one.recovery)
    assert np.isnan(found.interval).all() and np.isnan(one.interval).all() and (one.n == 1).all()
    np.testing.assert_array_equal(one.per_pair, one.raw[None])
    assert np.isnan(one.low).all() and found.to_rows()[0]["low"] is None and found.to_rows()[0]["n"] == 1
    assert "one pair" in repr(found) and "±" not in repr(found) and "over 1 pair" in repr(found)


def test_pairs_with_a_small_gap_count_and_are_named():
    rng = np.random.default_rng(2)
    singles = [single(rng) for _ in range(11)] + [single(rng, gap=1e-9, part_of_set=True)]
    found = PatchingSet(singles, [f"p{i}" for i in range(12)])
    assert found.small_gaps == ["p11"] and np.isnan(singles[-1].recovery).all()
    assert "1 of 12 pairs have a gap too small to mean anything by itself" in repr(found) and "p11" in repr(
        found
    )
    np.testing.assert_allclose(found.recovery[2], by_hand(singles, {"layer": 2})[1])
    assert singles[-1].to_rows()[0]["prob_recovery"] is None and singles[-1].top() == []
    with pytest.raises(EffectError, match="hardly moves prob"):
        single(rng, gap=1e-9)
    with pytest.raises(EffectError, match="over the 2 pairs of this set the corruption hardly moves prob"):
        PatchingSet([single(rng, gap=1e-9, part_of_set=True)] * 2, ["a", "b"])


def test_gaps_that_go_the_other_way_are_named():
    rng = np.random.default_rng(3)
    found = PatchingSet([single(rng, gap=g) for g in (1, 1.2, -0.5, 0.9)], list("abcd"))
    assert "goes the other way in 1 pairs: c" in repr(found)
    np.testing.assert_allclose(found.interval[1], by_hand(found.singles, {"layer": 1})[2])
    torn = PatchingSet([single(rng, gap=g) for g in (1, -0.9)], list("ab"))
    assert "recoveries mean little" in repr(torn)


def test_where_the_gap_of_a_part_is_too_small_there_is_no_recovery():
    rng = np.random.default_rng(4)
    singles = [single(rng, ("layer", "region"), ["first"]) for _ in range(3)]
    singles.append(single(rng, ("layer", "region"), gap=1e-9, part_of_set=True))
    found = PatchingSet(singles, list("abcd"))
    assert np.isfinite(found.recovery[:, 0]).all() and np.isnan(found.recovery[:, 1:]).all()
    assert "too small, it has no recovery" in repr(found) and found._repr_html_()
    assert all(row["region"] == "first" for row in found.top())
    json.loads(json.dumps(found.to_rows(), allow_nan=False))


@pytest.mark.parametrize(
    "changes,says",
    [
        ({"direction": "noise"}, "'p2' has direction 'noise', others 'denoise'"),
        ({"window": 3}, "'p2' has window 3"),
        ({"model": "other"}, "'p2' has model 'other'"),
        ({"settings": {"windows": {"mlp": 3}}}, "'p2' has windows {'mlp': 3}, others None"),
        ({"coords": {"layer": [4, 5, 6, 7]}}, r"'p2' has layers \[4, 5, 6, 7\], others \[0, 1, 2, 3\]"),
        ({"components": ["attn"]}, "'p2' has components"),
        ({"settings": {"positions": "last"}}, "'p2' has positions 'last', others None"),
    ],
)
def test_the_odd_one_is_named(changes, says):
    rng = np.random.default_rng(5)
    singles = [single(rng, **(changes if i == 2 else {})) for i in range(4)]
    with pytest.raises(InputError, match=says):
        PatchingSet(singles, [f"p{i}" for i in range(4)])
    if "coords" not in changes:
        with pytest.raises(InputError, match="'p0' has"):
            PatchingSet([singles[2], *singles[:2]], ["p0", "p1", "p2"])


def test_metrics_and_dims_must_be_the_same():
    rng = np.random.default_rng(6)
    one, two = single(rng), single(rng, ("metric", "layer"))
    with pytest.raises(InputError, match="has metrics"):
        PatchingSet([one, one, two], list("abc"))
    with pytest.raises(InputError, match="has dims"):
        PatchingSet([one, one, single(rng, ("layer", "head"))], list("abc"))


def test_what_is_no_set_is_refused():
    one = single(np.random.default_rng(7))
    whole = a_set(n=2)
    for singles, ids, says in (
        ([], [], "at least one pair"),
        ([one], ["a", "b"], "1 results but 2 ids"),
        ([one, one], ["a", "a"], "more than once: a"),
        ([one], [3], "an id is a text"),
        ([one, whole], ["a", "b"], r"'b' is a PatchingSet.*\.singles"),
        ([one, 3.0], ["a", "b"], "'b' is a float"),
        (one.raw[0], ["a"], "singles is a list"),
        ([one], "a", "ids is a list"),
    ):
        with pytest.raises(InputError, match=says):
            PatchingSet(singles, ids)


def test_panels_have_the_intervals_of_their_own_metric():
    found = a_set(("component", "metric", "layer", "region", "head"), lacking=(0,))
    for j, metric in enumerate(found.metrics):
        panels = found.panels(metric)
        assert [(p.component, p.head) for p in panels] == [(c, h) for c in ("mlp", "attn") for h in range(3)]
        for i, panel in enumerate(panels):
            of_panel = (i // 3, j, slice(None), slice(None), i % 3)
            np.testing.assert_array_equal(panel.values, found.recovery[of_panel].T)
            np.testing.assert_array_equal(panel.halves, found.interval[of_panel].T)


def test_pairs_by_name_and_number():
    found = a_set()
    assert found.single("p3") is found.single(3) is found.single(-4) is found.singles[3]
    for wrong in ("p9", 7, -8, None, 1.0, True):
        with pytest.raises(InputError):
            found.single(wrong)


def test_rows_have_the_pairs_and_the_interval():
    found = a_set(("layer", "region"), lacking=(0, 1))
    rows = found.to_rows()
    assert list(rows[0]) == ["component", "layer", "region", "prob", "prob_recovery", "n", "low", "high"]
    (row,) = [r for r in rows if (r["layer"], r["region"]) == (2, "middle")]
    assert row["n"] == 5 and row["high"] - row["prob_recovery"] == pytest.approx(found.interval[2, 1])
    assert row["prob_recovery"] == found.sel(layer=2, region="middle") and json.dumps(rows)
    both = a_set(("metric", "layer")).to_rows()[1]
    assert "low" not in both and both["kl_low"] < both["kl_recovery"] < both["kl_high"]


@pytest.mark.parametrize(
    "dims", [("layer",), ("layer", "region"), ("component", "metric", "layer", "region", "head")]
)
def test_files(dims, tmp_path):
    found = a_set(dims, lacking=(0, 2))
    loaded = PatchingResult.load(found.save(tmp_path / "set"))
    assert type(loaded) is PatchingSet and loaded.ids == found.ids and repr(loaded) == repr(found)
    for name in ("raw", "recovery", "interval", "n", "per_pair"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(found, name))
    for one, again in zip(found.singles, loaded.singles, strict=True):
        np.testing.assert_array_equal(one.raw, again.raw)
        assert (one.coords, one.target, one.settings) == (again.coords, again.target, again.settings)
    assert PatchingSet.load(tmp_path / "set.npz").notes == found.notes
    single_file = found.singles[0].save(tmp_path / "one")
    assert type(PatchingResult.load(single_file)) is PatchingResult
    with pytest.raises(LoadError, match="holds a PatchingResult, not a PatchingSet"):
        PatchingSet.load(single_file)
    told = json.loads(found.to_json(tmp_path / "set.json").read_text())
    assert len(told["rows"]) == len(found.to_rows()) and [pair["id"] for pair in told["pairs"]] == found.ids
    assert found.to_csv(tmp_path / "set.csv").read_text().splitlines()[0].endswith("high")


def test_a_small_gap_is_kept_in_the_file(tmp_path):
    rng = np.random.default_rng(8)
    one = single(rng, gap=1e-9, part_of_set=True)
    again = PatchingResult.load(one.save(tmp_path / "one"))
    assert again.part_of_set and np.isnan(again.recovery).all()
    found = PatchingSet([single(rng), one], ["a", "b"])
    assert PatchingResult.load(found.save(tmp_path / "set")).small_gaps == ["b"]


def test_what_it_prints():
    texts = repr(a_set(("layer", "region"), n=12, lacking=(1,)))
    assert "Restoring the MLP output over 12 pairs (each region)" in texts
    assert "recovery of prob, percent: of the means over 12 pairs, ± its interval" in texts
    assert "1.96 standard errors of a ratio of means (Cochran 1977, section 2.11)" in texts
    assert "pairs by region: first 12, middle 11, last 12" in texts and "too narrow" not in texts
    few = a_set(n=4)
    assert "with 4 pairs, 1.96 standard errors are too narrow" in repr(few)
    assert f"{few.recovery[0]:.1f} ± {few.interval[0]:.1f}" in repr(few) and "±" in few._repr_html_()


def test_uncertain_cells_are_marked():
    values = np.full((12, 3, 2), 0.1) + np.array([[0.4, 0.0], [0.2, -0.3], [0, 0]])
    values[::2, 1] = 0.9  # pairs disagree
    singles = [
        make(v, ("layer", "region"), coords={"layer": [0, 1, 2], "region": ["a", "b"]}) for v in values
    ]
    lines = repr(PatchingSet(singles, [f"p{i}" for i in range(12)])).splitlines()
    rows = [line.split()[-1] for line in lines if line.startswith(("  a  ", "  b  "))]
    assert rows == ["▓▓·", "·?·"]


def test_answers_and_texts_that_pairs_share_are_named():
    rng = np.random.default_rng(9)
    paris = [single(rng, target=Answer(5, " Paris", p, 0.1), clean_text=f"text {p}") for p in (0.5, 0.7)]
    found = PatchingSet(paris, ["a", "b"])
    assert found.target == Answer(5, " Paris", pytest.approx(0.6), 0.1)
    assert found.clean_text == "2 prompts, the first: text 0.5" and found.tokens == paris[0].tokens
    mixed = [*paris, single(rng, target=Answer(6, " Rome", 0.9, 0.1), tokens=["Another", " text"])]
    other = PatchingSet(mixed, ["a", "b", "c"])
    assert other.target is None and other.tokens == [] and " Paris" not in repr(other)


def test_notes_of_pairs_are_kept_with_their_number():
    rng = np.random.default_rng(10)
    notes = [["of all", *(["of some"] if i < 2 else [])] for i in range(11)]
    found = PatchingSet(
        [single(rng, notes=n) for n in notes], [f"p{i}" for i in range(11)], ["given", "of all"]
    )
    assert found.notes == ["given", "of all", "2 of 11 pairs: of some"]
