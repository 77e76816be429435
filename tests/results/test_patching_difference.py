"""Differences of results: rows, words, files. The numbers are in `test_subtracting.py`."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_patching_set import a_set
from test_subtracting import another

from mlxtrace.errors import InputError, LoadError
from mlxtrace.results.patching_difference import PatchingDifference

DIMS = [
    ("layer",),
    ("component", "layer"),
    ("layer", "region"),
    ("layer", "head"),
    ("metric", "layer", "region", "head"),
]


def difference(dims=("layer",), n=12, **changes):
    first = a_set(dims, n=n, lacking=(1,))
    return first - another(first, model="other", **changes)


@pytest.mark.parametrize("dims", DIMS, ids=str)
def test_rows_words_and_files(dims, tmp_path):
    found = difference(dims)
    rows = found.to_rows()
    assert len(rows) == found.recovery.size and json.dumps(rows)
    strongest = found.top(2)
    assert (
        abs(strongest[0]["difference"]) >= abs(strongest[1]["difference"])
        and strongest[0]["metric"] == "prob"
    )
    row = rows[-1]
    last = tuple(-1 for _ in dims)
    assert (
        row["difference"] == found.recovery[last] == row["first"] - row["second"]
        and row["n"] == found.n[last]
    )
    assert row["high"] - row["difference"] == pytest.approx(found.interval[last])
    text = repr(found)
    assert "demo less other" in text and "percentage points, paired by id over 12 pairs" in text
    assert "paired and linearised" in text and f"{strongest[0]['difference']:.1f} ± " in text
    loaded = PatchingDifference.load(found.save(tmp_path / "difference"))
    assert repr(loaded) == repr(found) and loaded.names == found.names
    for name in ("recovery", "interval", "n"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(found, name))
    assert found.to_csv(tmp_path / "d.csv") and found.to_json(tmp_path / "d.json")


def test_a_file_that_does_not_fit_its_labels_is_refused(tmp_path):
    found = difference()
    found.coords = {"layer": [0]}
    with pytest.raises(LoadError, match="not a complete PatchingDifference"):
        PatchingDifference.load(found.save(tmp_path / "bad"))


def test_uncertain_differences_are_marked():
    found = difference()
    lines = [line for line in repr(found).splitlines() if " ± " in line]
    unsure = np.abs(found.recovery) <= found.interval
    assert [" ?" in line for line in lines[1:]] == unsure.tolist() and unsure.any()


def test_few_pairs_are_said_and_metrics_checked():
    assert "with 4 pairs" in repr(difference(n=4))
    with pytest.raises(InputError, match="closest: prob"):
        difference().panels("probs")
    assert difference(("metric", "layer")).panels("kl")[0].values.shape == (4, 1)
