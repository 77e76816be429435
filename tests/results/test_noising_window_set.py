"""Noising windows over prompts: means and intervals by hand, what is refused, files."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlxtrace.errors import InputError
from mlxtrace.results.noising_window_result import NoisingWindow
from mlxtrace.results.noising_window_set import NoisingWindowSet
from mlxtrace.results.saved import Answer


def one_of(rng, **changes):
    kept = dict(
        raw=rng.uniform(size=(3, 2)),
        layers=[0, 1, 2],
        clean=rng.uniform(0.5, 0.9),
        noised=rng.uniform(0, 0.1),
        answer=Answer(1, " Paris", 0.8, 0.0),
        component="mlp",
        window=3,
        level=0.5,
        seed=1,
        prompt="The Louvre is in",
        model="demo",
    )
    return NoisingWindow(**{**kept, **changes})


def noising_set(n=6):
    rng = np.random.default_rng(0)
    return NoisingWindowSet(
        [one_of(rng, prompt=f"prompt {i}") for i in range(n)], [f"p{i}" for i in range(n)]
    )


def test_every_number_by_hand(tmp_path):
    found = noising_set()
    for layer in range(3):
        scores = [one.raw[layer].mean() for one in found.singles]
        mean = sum(scores) / 6
        half = 1.96 * math.sqrt(sum((s - mean) ** 2 for s in scores) / 5) / math.sqrt(6)
        row = found.to_rows()[layer]
        assert (found.scores[layer], found.interval[layer]) == pytest.approx((mean, half))
        assert (row["n"], row["low"], row["high"]) == (
            6,
            pytest.approx(mean - half),
            pytest.approx(mean + half),
        )
    np.testing.assert_allclose(found.per_pair, [one.scores for one in found.singles])
    assert found.clean == pytest.approx(np.mean([one.clean for one in found.singles]))
    loaded = NoisingWindow.load(found.save(tmp_path / "noising"))
    assert type(loaded) is NoisingWindowSet and repr(loaded) == repr(found)
    np.testing.assert_array_equal(loaded.interval, found.interval)
    np.testing.assert_array_equal(loaded.single("p4").raw, found.singles[4].raw)
    assert len(found.to_json(tmp_path / "x.json").read_text()) > 100 and found.to_csv(tmp_path / "x.csv")


def test_words():
    text = repr(noising_set())
    assert "which are clean over 6 pairs" in text and "1.96 s / sqrt(n)" in text and "±" in text
    assert "6 prompts, the first: prompt 0" in text and " Paris" in text
    rng = np.random.default_rng(1)
    mixed = [one_of(rng), one_of(rng, answer=Answer(2, " Rome", 1, 0), level=0.7)]
    found = NoisingWindowSet(mixed, ["a", "b"])
    assert found.answer is None and "level is from 0.5 to 0.7" in repr(found)
    alone = NoisingWindowSet([one_of(rng)], ["a"])
    assert np.isnan(alone.interval).all() and "±" not in repr(alone) and alone.to_rows()[0]["low"] is None


def test_the_odd_one_is_named():
    rng = np.random.default_rng(2)
    for changes, says in (
        ({"window": 5}, "'c' has window 5"),
        ({"raw": rng.uniform(size=(3, 4))}, "'c' has samples 4"),
    ):
        with pytest.raises(InputError, match=says):
            NoisingWindowSet([one_of(rng), one_of(rng), one_of(rng, **changes)], list("abc"))
