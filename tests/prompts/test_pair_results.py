"""The results of pairs in a folder: how they are read, and what they come to together."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from pair_runs import MISSING, PAIRS, QUICK, model, of, out, whole  # noqa: F401

from mlxtrace import prompts
from mlxtrace.errors import InputError, LoadError
from mlxtrace.prompts.pair_results import KINDS, PairFolder, kind_of, notes_on
from mlxtrace.results.patching_set import PatchingResult, PatchingSet


def test_experiments_by_name():
    assert kind_of("activation_patching").single is PatchingResult
    with pytest.raises(InputError, match="closest: causal_effects"):
        kind_of("causal_effect")
    for name in (None, 3, ["causal_trace"]):
        with pytest.raises(InputError, match="unknown"):
            kind_of(name)
    assert len({kind.single for kind in KINDS.values()}) == len(KINDS)


def test_a_folder_is_read_in_the_order_of_its_pairs(model, tmp_path):
    pairs = [of(place) for place in ("Louvre", "Colosseum", "Taj Mahal")]
    named = [prompts.Pair(p.clean, p.corrupted, id=id) for p, id in zip(pairs, "cab", strict=True)]
    made = prompts.run(model, named, out=tmp_path / "out", **QUICK)
    again = PairFolder(tmp_path / "out").together()
    assert made.ids == again.ids == ["c", "a", "b"]
    np.testing.assert_array_equal(again.per_pair, made.per_pair)
    assert PairFolder(tmp_path / "out").together(["b", "a"]).ids == ["b", "a"]


def test_what_is_no_result_of_a_pair(whole, out):
    folder = PairFolder(out)
    assert folder.kind is KINDS["activation_patching"]
    average = PatchingSet.load(whole / "average.npz")
    assert folder.is_complete(folder.load(folder.path_of("0000"))) and not folder.is_complete(average)
    folder.path_of("0001").unlink()
    shutil.copy(folder.path_of("0000"), folder.path_of("0001"))
    assert folder.result("0001") is None
    with pytest.raises(InputError, match="a second result of the pair '0000'"):
        folder.together()


def test_none_that_can_be_used_says_why(out):
    for path in (out / "pairs").glob("*.npz"):
        path.unlink()
    with pytest.raises(InputError, match=f"none of 6 pairs can be used, such as {MISSING}: .*nowhere"):
        PairFolder(out).together()


def test_settings_of_another_experiment_do_not_load(out):
    told = json.loads((out / "settings.json").read_text())
    (out / "settings.json").write_text(json.dumps({**told, "settings": {**told["settings"], "layers": 1}}))
    with pytest.raises(LoadError, match="not a folder of results"):
        PairFolder(out)


def test_notes_name_every_pair_that_is_left_out():
    records = [{"id": f"p{i}", "why": f"reason {i}\nmore"} for i in range(5)]
    (note,) = notes_on(records, 9, 0)
    assert note == "5 of 9 pairs left out: p0 (reason 0); p1 (reason 1); p2 (reason 2); and p3, p4"
    assert notes_on([], 9, 2) == ["2 of 9 pairs have no result yet: the run that makes them is not done"]
    assert notes_on([], 9, 0) == []
    assert len(PAIRS) == 6
