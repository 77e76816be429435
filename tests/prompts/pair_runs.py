"""What tests of runs over pairs share: the demo, pairs of several lengths, a whole run."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import shipped

from mlxtrace import prompts
from mlxtrace.prompts.pair_results import PairFolder

OTHER = "The Statue of Liberty is in the city of"
PLACES = ["Eiffel Tower", "Colosseum", "Louvre Museum", "Big Ben", "Sydney Opera House", "Golden Gate Bridge"]
QUICK = {"component": "resid_post", "layers": [0, 6], "align": "ends", "positions": "last", "progress": False}
MISSING = "0003"  # the pair of PAIRS that cannot be used


def of(place, subject=None):
    return prompts.Pair(f"The {place} is in the city of", OTHER, subject=subject)


PAIRS = [of(place, "nowhere" if place == "Big Ben" else place) for place in PLACES]


@pytest.fixture(scope="module")
def model():
    return shipped.load("demo")


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """The folder of an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "out"
    prompts.run(model, PAIRS, out=out, **QUICK)
    return out


@pytest.fixture
def out(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "out")


def names(folder):
    return sorted(path.name for path in (folder / "pairs").iterdir() if not path.name.endswith(".part"))


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "pairs").iterdir()}


def same(here, there):
    """Two folders have the same files, and their results the same numbers and settings."""
    assert names(here) == names(there)
    first, second = PairFolder(here), PairFolder(there)
    for path in first.files.glob("*.npz"):
        one, other = first.load(path), second.load(second.files / path.name)
        assert one.settings == other.settings
        for name, array in one._arrays().items():
            np.testing.assert_allclose(array, other._arrays()[name], atol=1e-5)
    assert [record["why"] for record in first.everything()[1]] == [
        record["why"] for record in second.everything()[1]
    ]
