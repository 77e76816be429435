"""What folders come to: those of pairs and those of facts, by one function."""

from __future__ import annotations

import numpy as np
import pytest
from pair_runs import model, out, whole  # noqa: F401

from mlxtrace import facts, prompts
from mlxtrace.errors import InputError, LoadError
from mlxtrace.results.patching_set import PatchingSet


def test_pairs_and_facts(model, whole, tmp_path):
    np.testing.assert_array_equal(
        prompts.averages(whole).recovery, PatchingSet.load(whole / "average.npz").recovery
    )
    quick = {"samples": 1, "progress": False}
    for kinds in ((None,), ("mlp", "attn")):
        traced = tmp_path / str(len(kinds))
        average = facts.run(model, facts.load()[:1], traced, kinds=kinds, **quick)
        again = prompts.averages(traced)
        assert sorted(map(str, again.kinds)) == sorted(map(str, kinds))
        for kind in kinds:
            np.testing.assert_array_equal(again.of(kind), average.of(kind))


def test_what_is_no_folder_of_a_run(tmp_path, out):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "nothing", tmp_path, "", None, 3):
        with pytest.raises(LoadError):
            prompts.averages(place)
    told = out / "settings.json"
    told.write_text(told.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(InputError, match="newer"):
        prompts.averages(out)
