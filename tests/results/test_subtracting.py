"""What may be subtracted from what, and differences by hand: pairs matched by their ids, cells by their labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_patching_result import make
from test_patching_set import a_set, single

from mlxtrace.errors import InputError
from mlxtrace.results.patching_set import PatchingSet


def another(result, seed=1, ids=None, **changes):
    """A set of the same pairs with other numbers, in another order."""
    rng = np.random.default_rng(seed)
    own = [one.coords.get("region", ()) for one in result.singles]
    singles = [single(rng, result.dims, list(regions), **changes) for regions in own]
    order = rng.permutation(len(singles))
    return PatchingSet([singles[i] for i in order], [(ids or result.ids)[i] for i in order])


def by_hand(first, second, labels):
    """Both recoveries and the half-width of their difference for the cell with these labels, in plain loops."""
    metric, there = labels.get("metric", "prob"), []
    for name in first.ids:
        pair = first.single(name), second.single(name)
        if all(label in one.coords[dim] for one in pair for dim, label in labels.items()):
            there.append(
                [
                    (
                        one.raw[tuple(one.coords[d].index(labels[d]) for d in one.dims)]
                        - one._corrupted[metric],
                        one._clean[metric] - one._corrupted[metric],
                    )
                    for one in pair
                ]
            )
    n = len(there)
    means = [sum(pair[k][1] for pair in there) / n for k in (0, 1)]
    ratios = [sum(pair[k][0] for pair in there) / n / means[k] for k in (0, 1)]
    moves = [[(x - ratios[k] * gap) / means[k] for k, (x, gap) in enumerate(pair)] for pair in there]
    half = 1.96 * math.sqrt(n / (n - 1) * sum((a - b) ** 2 for a, b in moves)) / n
    return 100 * ratios[0], 100 * ratios[1], 100 * half, n


@pytest.mark.parametrize(
    "dims", [("layer",), ("layer", "region"), ("component", "metric", "layer", "region", "head")], ids=len
)
@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_every_difference_by_hand(dims, direction):
    first = a_set(dims, lacking=(0, 3), direction=direction)
    second = another(first, direction=direction)
    found = first - second
    arrays = (found.first, found.second, found.interval, found.n)
    for cell in np.ndindex(found.recovery.shape):
        labels = {dim: found.coords[dim][i] for dim, i in zip(dims, cell, strict=True)}
        np.testing.assert_allclose([a[cell] for a in arrays], by_hand(first, second, labels), rtol=1e-9)
    np.testing.assert_array_equal(found.recovery, found.first - found.second)
    np.testing.assert_allclose(found.first, first.recovery)
    assert not any("in both" in note for note in found.notes)


def test_a_cell_is_of_the_pairs_that_have_it_in_both():
    first, other = (
        a_set(("layer", "region"), lacking=(0, 1)),
        a_set(("layer", "region"), seed=1, lacking=(1, 4)),
    )
    found = first - other
    assert found.n[:, 1].tolist() == [4] * 4 and found.n[0, 0] == 7
    assert any("those that have it in both" in note for note in found.notes)
    np.testing.assert_allclose(
        [x[2, 1] for x in (found.first, found.second, found.interval)],
        by_hand(first, other, {"layer": 2, "region": "middle"})[:3],
    )
    assert abs(found.first[2, 1] - first.recovery[2, 1]) > 1e-3  # over fewer pairs than the result's own


def test_labels_in_another_order_are_put_right():
    rng = np.random.default_rng(2)
    first = a_set(("metric", "layer"))
    singles = [single(rng, ("metric", "layer")) for _ in first.ids]
    turned = []
    for one in singles:
        coords = {"metric": ["kl", "prob"], "layer": [3, 1, 0, 2]}
        raw = one.raw[::-1][:, [3, 1, 0, 2]]
        turned.append(
            make(
                raw,
                one.dims,
                coords=coords,
                metrics=["kl", "prob"],
                clean=one._clean,
                corrupted=one._corrupted,
            )
        )
    straight, other = PatchingSet(singles, first.ids), PatchingSet(turned, first.ids)
    for a, b in zip((first - straight)._arrays().values(), (first - other)._arrays().values(), strict=True):
        np.testing.assert_allclose(a, b)


def test_two_single_results_have_a_difference_without_an_interval():
    rng = np.random.default_rng(3)
    one, other = (
        single(rng, ("layer", "region")),
        single(rng, ("layer", "region"), ["last", "middle", "first"]),
    )
    found = one - other
    np.testing.assert_allclose(found.recovery, one.recovery - other.recovery[:, ::-1])
    assert np.isnan(found.interval).all() and found.ids == [] and found.to_rows()[0]["low"] is None


def test_a_component_or_a_metric_may_differ():
    rng = np.random.default_rng(4)
    one, other = single(rng), single(rng, components=["attn"])
    assert (one - other).components == ["mlp - attn"] and (one - other).names == ("mlp", "attn")
    assert "Restoring the MLP less attention output (whole sequence)" in repr(one - other)
    kl = make(
        rng.uniform(0, 4, 4),
        metrics=["kl"],
        clean={"kl": 0.0},
        corrupted={"kl": 4.0},
        model="other",
        window=3,
    )
    found = one - kl
    assert found.metrics == ["prob - kl"] and found.names == ("demo, prob, window 1", "other, kl, window 3")
    np.testing.assert_allclose(found.recovery, one.recovery - kl.recovery)
    assert (one - one).names == ("first", "second") and not (one - one).recovery.any()


def test_results_without_a_difference_are_refused():
    first, rng = a_set(), np.random.default_rng(5)
    for other, says in (
        (single(rng), "one result is of a set of pairs, the other of one pair"),
        (a_set(("layer", "head")), "one result has layer, the other layer x head"),
        (a_set(direction="noise"), "one result denoises, the other noises"),
        (a_set(n=5), "of 7 and 5 pairs 5 have the same id; plotting.compare"),
        (PatchingSet(first.singles, [f"q{i}" for i in range(7)]), "of 7 and 7 pairs 0 have the same id"),
        (another(first, coords={"layer": [0, 1, 2, 9]}), "only one of both results has layer 3, 9"),
        (3, "a result less int"),
        (None, "a result less NoneType"),
    ):
        with pytest.raises(InputError, match=says):
            first - other
    maps = [single(rng, ("layer", "region"), own) for own in (["first"], ["last"])]
    with pytest.raises(InputError, match="only one of both results has region first, last"):
        maps[0] - maps[1]
    one = make(np.full((3, 4), 0.3), ("layer", "position"))
    other = make(np.full((3, 4), 0.3), ("layer", "position"), tokens=["A", " cat", " sat", " in"])
    with pytest.raises(InputError, match="their prompts have other tokens"):
        one - other
    several = make(np.full((2, 4), 0.3), ("component", "layer"))
    with pytest.raises(InputError, match="only one of both results has component"):
        several - make(
            np.full((2, 4), 0.3),
            ("component", "layer"),
            components=["mlp", "head"],
            coords={"component": ["mlp", "head"], "layer": [0, 1, 2, 3]},
        )


def test_what_is_paired_by_id_with_other_prompts_is_noted():
    first = a_set(n=12)
    assert not (first - another(first)).notes
    assert (
        "12 of 12 pairs have other prompts" in (first - another(first, clean_text="Another prompt")).notes[0]
    )


def test_where_a_part_has_too_small_a_gap_there_is_no_difference():
    rng = np.random.default_rng(6)
    parts = [single(rng, ("layer", "region"), ["first"]) for _ in range(3)]
    parts.append(single(rng, ("layer", "region"), gap=1e-9, part_of_set=True))
    first = PatchingSet(parts, list("abcd"))
    found = first - another(first)
    assert np.isnan(found.recovery[:, 1:]).all() and np.isfinite(found.recovery[:, 0]).all()
    assert repr(found) and found.plot() and len(found.top(99)) == 4
