"""Paths over pairs: means and intervals by hand, files."""

from __future__ import annotations

import numpy as np
import pytest
from test_path_result import made

from mlxtrace.errors import InputError
from mlxtrace.results.path_result import PathResult
from mlxtrace.results.path_set import PathSet


def singles(n=4, **changes):
    rng = np.random.default_rng(0)
    return [
        made(
            raw=rng.normal(size=(2, 3)),
            clean_values={"prob": float(rng.uniform(2, 3))},
            corrupted_values={"prob": float(rng.uniform(0, 1))},
            part_of_set=True,
            **changes,
        )
        for _ in range(n)
    ]


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_every_number_by_hand(direction):
    parts = singles(direction=direction)
    found = PathSet(parts, list("abcd"))
    effects = np.array([one.effect for one in parts])
    np.testing.assert_allclose(found.effect, effects.mean(0))
    np.testing.assert_allclose(found.effect_interval, 1.96 * effects.std(0, ddof=1) / 2)
    gaps = np.array([one.clean - one.corrupted for one in parts])
    moved = np.array([one.raw - one.corrupted for one in parts])
    np.testing.assert_allclose(found.recovery, 100 * moved.sum(0) / gaps.sum())
    residuals = moved - gaps[:, None, None] * (moved.sum(0) / gaps.sum())
    half = 100 * 1.96 * np.sqrt(4 / 3 * (residuals**2).sum(0)) / gaps.sum()
    np.testing.assert_allclose(found.interval, half)
    assert (found.n == 4).all() and found.per_pair["raw"].shape == (4, 2, 3)
    assert found.single("b").raw is parts[1].raw and found.edge.sum() == 5


def test_of_several_metrics():
    parts = singles()
    both = [
        made(
            raw=np.stack([one.raw, 5 * one.raw]),
            metrics=["prob", "logit"],
            clean_values={"prob": one.clean, "logit": 5 * one.clean},
            corrupted_values={"prob": one.corrupted, "logit": 5 * one.corrupted},
        )
        for one in parts
    ]
    found, alone = PathSet(both, list("abcd")), PathSet(parts, list("abcd"))
    np.testing.assert_allclose(found.effect[0], alone.effect)
    np.testing.assert_allclose(found.effect[1], 5 * alone.effect)
    np.testing.assert_allclose(found.interval[1], alone.interval)
    assert "logit_interval" in found.to_rows()[0] and repr(found)


def test_regions_that_some_pairs_lack():
    parts = []
    for i, one in enumerate(singles()):
        own = ["S", "END"] if i % 2 else ["END"]
        raw = np.stack([one.raw + k for k in range(len(own))], axis=-1)
        parts.append(
            made(raw=raw, regions=own, clean_values=one.clean_values, corrupted_values=one.corrupted_values)
        )
    found = PathSet(parts, list("abcd"))
    assert sorted(found.regions) == ["END", "S"]
    at = found.regions.index("S")
    assert (found.n[..., at] == 2).all() and np.isnan(found.per_pair["raw"][0, ..., at]).all()
    np.testing.assert_allclose(
        found.effect[..., at], np.mean([parts[i].effect[..., 0] for i in (1, 3)], axis=0)
    )
    assert any("pairs by region" in note for note in found.notes)


@pytest.mark.parametrize("regions", [False, True])
def test_files(regions, tmp_path):
    parts = singles()
    if regions:
        parts = [
            made(raw=one.raw[..., None], regions=["S" if i else "END"], clean_values=one.clean_values,
                 corrupted_values=one.corrupted_values)
            for i, one in enumerate(parts)
        ]  # fmt: skip
    found = PathSet(parts, list("abcd"), ["look"])
    again = PathResult.load(found.save(tmp_path / "set.npz"))
    assert isinstance(again, PathSet) and again.ids == list("abcd") and "look" in again.notes
    np.testing.assert_array_equal(again.effect, found.effect)
    np.testing.assert_array_equal(again.interval, found.interval)
    assert again.to_rows() == found.to_rows() and repr(again) == repr(found)
    assert found.to_json(tmp_path / "set.json").exists()


def test_in_words():
    said = repr(PathSet(singles(12), [f"p{i}" for i in range(12)]))
    assert said.startswith("Restoring paths: 2 senders to 3 receivers over 12 pairs") and " ± " in said
    assert "95 % interval over the pairs" in said


def test_results_of_several_kinds():
    parts = singles(2)
    with pytest.raises(InputError, match="receivers"):
        PathSet([*parts, made(receivers=["m1", "m2", "m3"])], list("abc"))


def test_drawn():
    assert PathSet(singles(), list("abcd")).plot().axes
