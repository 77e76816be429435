"""Causal effects over pairs: means and intervals by hand, what is refused, files."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from test_causal_effects_result import made

from mlxtrace import CausalEffects
from mlxtrace.errors import InputError
from mlxtrace.results.effects_set import EffectsSet
from mlxtrace.results.saved import Answer

NAMES = ["IO", "S", "END"]


def one_of(rng, own=None, **changes):
    shape = (2,) if own is None else (2, len(own))
    return made(
        **{
            "direct": rng.uniform(size=shape),
            "indirect": rng.normal(size=shape),
            "base_value": rng.uniform(),
            "source_value": rng.uniform(),
            "regions": own,
            **changes,
        }
    )


def effects_set(n=5, regions=False, **changes):
    rng = np.random.default_rng(0)
    own = [[name for name in NAMES if name != "S" or i % 2] if regions else None for i in range(n)]
    return EffectsSet([one_of(rng, names, **changes) for names in own], [f"p{i}" for i in range(n)])


def mean_and_half(values):
    n, mean = len(values), sum(values) / len(values)
    return mean, 1.96 * math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1)) / math.sqrt(n)


def test_every_number_by_hand():
    found = effects_set()
    for layer in range(2):
        for name in ("direct", "indirect"):
            values = [getattr(one, name)[layer] for one in found.singles]
            half = getattr(found, f"{name}_interval")[layer]
            assert (getattr(found, name)[layer], half) == pytest.approx(mean_and_half(values))
        moved = [one.direct[layer] - one.base_value for one in found.singles]
        assert (found.direct_change[layer], found.direct_change_interval[layer]) == pytest.approx(
            mean_and_half(moved)
        )
        assert found.natural_indirect[layer] == found.direct_change[layer]
        past = [one.source_value - one.indirect[layer] - one.base_value for one in found.singles]
        for name, values in (("natural_indirect", moved), ("natural_direct", past)):
            half = getattr(found, f"{name}_interval")[layer]
            assert (getattr(found, name)[layer], half) == pytest.approx(mean_and_half(values))
            row = found.to_rows()[layer]
            assert (row[name], row[f"{name}_high"] - row[name]) == pytest.approx(mean_and_half(values))
    np.testing.assert_allclose(found.natural_direct + found.indirect, found.change)
    changes = [one.source_value - one.base_value for one in found.singles]
    assert (found.change, float(found.halves["change"])) == pytest.approx(mean_and_half(changes))
    totals = [one.total for one in found.singles]
    assert found.total == pytest.approx(sum(totals) / 5) and found.per_pair["direct"].shape == (5, 2)


def test_regions_that_pairs_lack():
    found = effects_set(regions=True)
    assert found.regions == NAMES and found.n.tolist() == [[5, 2, 5]] * 2
    having = [one for one in found.singles if "S" in one.regions]
    values = [one.direct[1, 1] for one in having]
    moved = [one.direct[1, 1] - one.base_value for one in having]
    assert (found.direct[1, 1], found.direct_interval[1, 1]) == pytest.approx(mean_and_half(values))
    assert found.direct_change[1, 1] == pytest.approx(mean_and_half(moved)[0])
    past = [one.source_value - one.indirect[1, 1] - one.base_value for one in having]
    there = found.natural_direct[1, 1], found.natural_direct_interval[1, 1]
    assert there == pytest.approx(mean_and_half(past))  # of the pairs that have it, on both sides
    last = [one.indirect[0, one.regions.index("END")] for one in found.singles]
    assert found.indirect[0, 2] == pytest.approx(mean_and_half(last)[0])
    assert "pairs by region: IO 5, S 2, END 5" in repr(found)
    (row,) = [r for r in found.to_rows() if (r["layer"], r["region"]) == (5, "S")]
    assert row["n"] == 2 and row["direct_high"] - row["direct"] == pytest.approx(found.direct_interval[1, 1])
    assert "token" not in row and found.top(1)[0]["region"] in NAMES


def test_the_odd_one_is_named():
    rng = np.random.default_rng(1)
    for changes, says in (
        ({"layers": [3, 6]}, r"'b' has layers \[3, 6\]"),
        ({"metric": "logit"}, "'b' has metric 'logit'"),
        ({"component": "attn"}, "'b' has component"),
    ):
        with pytest.raises(InputError, match=says):
            EffectsSet([one_of(rng), one_of(rng, **changes), one_of(rng)], list("abc"))
    with pytest.raises(InputError, match="'b' has places 'regions', others 'no regions'"):
        EffectsSet([one_of(rng), one_of(rng, NAMES), one_of(rng)], list("abc"))
    with pytest.raises(InputError, match=r"'b' is a EffectsSet.*\.singles"):
        EffectsSet([one_of(rng), effects_set()], list("ab"))


@pytest.mark.parametrize("regions", [False, True])
def test_files_and_words(regions, tmp_path):
    found = effects_set(regions=regions)
    loaded = CausalEffects.load(found.save(tmp_path / "effects"))
    assert type(loaded) is EffectsSet and repr(loaded) == repr(found) and loaded.ids == found.ids
    for name in ("direct", "indirect", "direct_interval", "direct_change"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(found, name))
    assert loaded.single("p1").regions == found.singles[1].regions
    told = json.loads(found.to_json(tmp_path / "effects.json").read_text())
    assert [pair["id"] for pair in told["pairs"]] == found.ids and told["rows"][0]["n"] == 5
    text = repr(found)
    assert "EffectsSet of the MLP output over 5 pairs" in text and "1.96 s / sqrt(n)" in text
    assert "with 5 pairs" in text and f"a change of {found.change:.4f} ± " in text


def test_answers_that_differ_are_not_named():
    rng = np.random.default_rng(2)
    one, other = (
        one_of(rng),
        one_of(rng, source_answer=Answer(7, " Peru", 0.5, 0.1), source_text="Lima is in"),
    )
    found = EffectsSet([one, other], ["a", "b"])
    assert found.source_answer is None and " Peru" not in repr(found) and " France" in repr(found)
    assert "2 prompts, the first: Rio is in" in repr(found)
    assert found.total == pytest.approx((one.total + other.total) / 2)


def test_one_pair_is_a_set_of_one():
    one = one_of(np.random.default_rng(3))
    found = EffectsSet([one], ["a"])
    np.testing.assert_array_equal(found.direct, one.direct)
    np.testing.assert_allclose(found.direct_change, one.direct_change)
    assert np.isnan(found.direct_interval).all() and found.to_rows()[0]["direct_low"] is None
    assert "±" not in repr(found) and one.ids == [] and one.halves == {}


def test_regions_of_one_pair():
    one = one_of(np.random.default_rng(4), NAMES, within="last")
    assert one.to_rows()[1]["region"] == "S" and "each region's last token" in repr(one)
    with pytest.raises(InputError, match="positions and regions"):
        one_of(np.random.default_rng(4), NAMES, positions=[0, 1, 2]).check()
