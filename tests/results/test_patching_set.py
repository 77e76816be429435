"""Sets of pairs: see `test_patching_result.py` for one pair."""

from __future__ import annotations

from mlxtrace.results.patching_set import PatchingSet


def test_it_keeps_the_results_of_its_pairs():
    assert PatchingSet([], []).singles == []
