"""Estimates say that they are approximate wherever they print, are drawn, or are kept."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mlxtrace import InterpretableModel, PatchingResult
from mlxtrace.results.attribution_result import AttributionResult, AttributionSet
from mlxtrace.results.patching_set import PatchingSet

CLEAN, OTHER = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"


@pytest.fixture(scope="module")
def results():
    model = InterpretableModel("demo")
    options = {
        "metric": ["logit_diff", "logprob"],
        "layers": [2, 5],
        "positions": "regions",
        "progress": False,
    }
    alone = model.attribution_patching(CLEAN, OTHER, component=["mlp", "q"], method="atp*", **options)
    both = model.attribution_patching(
        [CLEAN, "The Louvre Museum is in the city of"],
        [OTHER] * 2,
        component=["mlp", "q"],
        method="ig",
        **options,
    )
    return alone, both


def test_titles_tables_and_figures_say_so(results):
    for result, method in zip(results, ("atp*", "ig"), strict=True):
        said = f"Approximate ({method}): restoring the MLP output and queries"
        assert repr(result).startswith(said) and said in result._repr_html_()
        assert "Approximate" in " ".join(text.get_text() for text in result.plot().texts)
        assert all(row["approximate"] == method for row in [*result.to_rows(), *result.top(2)])
        assert result.method == method


def test_files_say_so_and_are_read_as_what_they_are(results, tmp_path):
    for result, kind in zip(results, (AttributionResult, AttributionSet), strict=True):
        path = result.save(tmp_path / "found.npz")
        for reader in (AttributionResult, PatchingResult):
            again = reader.load(path)
            assert type(again) is kind and again.method == result.method
            assert (again.scores == result.scores).all() and repr(again) == repr(result)
        found = json.loads(result.to_json(tmp_path / "found.json").read_text())
        assert found["settings"]["approximate"] == result.method
        assert "approximate" in result.to_csv(tmp_path / "found.csv").read_text().splitlines()[0]
    assert type(PatchingSet.load(path)) is AttributionSet


def test_scores_are_what_the_estimate_adds_to_the_base_run(results):
    alone, both = results
    base = np.array([alone.corrupted[name] for name in alone.metrics])[None, :, None, None]
    assert np.allclose(alone.scores, alone.raw - base)
    singles = [both.single(i) for i in range(2)]
    shared = [
        region for region in both.coords["region"] if all(region in s.coords["region"] for s in singles)
    ]
    for region in shared:
        at = both.coords["region"].index(region)
        mean = np.mean([s.scores[..., s.coords["region"].index(region)] for s in singles], axis=0)
        assert np.allclose(both.scores[..., at], mean)


def test_a_set_is_of_one_method(results):
    alone, both = results
    with pytest.raises(ValueError, match="approximate"):
        AttributionSet([alone, both.single(0)], ["a", "b"])
