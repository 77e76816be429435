from __future__ import annotations

import numpy as np
import pytest

from mlxtrace.results.circuit_curve import SIZES, Completeness, Curve, Faithfulness


def curve(values, sizes=(0.0, 0.5, 1.0), **changes):
    values = np.asarray(values, float)
    fields = {
        "values": values, "random": np.zeros((len(sizes), 0)), "clean": np.full(values.shape[1], 2.0),
        "corrupted": np.zeros(values.shape[1]), "sizes": list(sizes), "asked": [0, 5, 10], "edges": [0, 4, 10],
        "ids": [str(i) for i in range(values.shape[1])], "metric": "logit_diff", "method": "eap", "by": "top",
        "absolute": True, "model": "m", "total": 10,
    }  # fmt: skip
    return Curve(**{**fields, **changes})


def test_faithfulness_is_mean_over_mean():
    found = Faithfulness.of(
        np.array([1.0, 3.0]), np.array([2.0, 4.0]), np.array([0.0, 0.0]), ["a", "b"], "logit"
    )
    assert found == pytest.approx(4 / 6) and found.per_pair.tolist() == [0.5, 0.75]
    assert found.interval > 0 and "2 pairs" in repr(found) and f"{found:.1f}" == "0.7"
    alone = Faithfulness.of(np.array([1.0]), np.array([2.0]), np.array([0.0]), ["a"], "logit")
    assert np.isnan(alone.interval) and "±" not in repr(alone)


def test_areas_are_trapezoids_over_shares_of_edges():
    found = curve([[0.0], [3.0], [2.0]])  # faithfulness 0, 1.5, 1
    assert found.faithfulness.tolist() == [0, 1.5, 1]
    assert found.cpr == pytest.approx(0.5 * (0 + 1.5) / 2 + 0.5 * (1.5 + 1) / 2)
    assert found.cmd == pytest.approx(0.5 * (1 + 0.5) / 2 + 0.5 * (0.5 + 0) / 2)  # above 1 is off as well
    assert SIZES == (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)


def test_rows_text_and_file(tmp_path):
    found = curve([[0.0, 0.0], [1.0, 2.0], [2.0, 2.0]], random=np.array([[0.0, 0.2], [0.1, 0.3], [1.0, 1.0]]))
    row = found.to_rows()[1]
    assert row["edges"] == 4 and row["faithfulness"] == 0.75 and row["random"] == pytest.approx(0.2)
    assert row["interval"] > 0 and curve([[0.0], [1.0], [2.0]]).to_rows()[0]["interval"] is None
    assert "CPR" in repr(found) and "MIB" in repr(found) and "random" in repr(found)
    again = Curve.load(found.save(tmp_path / "curve"))
    assert (
        repr(again) == repr(found) and np.array_equal(again.values, found.values) and again.cpr == found.cpr
    )
    assert found.plot().axes[0].get_ylabel() == "faithfulness"


def test_completeness_is_the_largest_gap():
    whole = Faithfulness.of(np.array([0.1]), np.array([1.0]), np.array([0.0]), ["a"], "logit")
    found = Completeness(whole, [0.5, 0.2], [0.6, 0.7])
    assert found.gap == pytest.approx(0.5) and "0.500" in repr(found) and "0.100" in repr(found)
    assert Completeness(whole, [], []).gap == 0
