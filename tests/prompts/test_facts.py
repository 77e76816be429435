"""What users call: load, run, averages, and what each refuses."""

from __future__ import annotations

import pytest
from fact_runs import QUICK, ROOT, files, known, model, whole, write  # noqa: F401

from mlxtrace import facts
from mlxtrace.errors import InputError, LoadError


def test_bad_runs(model, known, tmp_path):
    with pytest.raises(InputError, match="no facts"):
        facts.run(model, [], out=tmp_path / "out")
    with pytest.raises(InputError, match="kinds"):
        facts.run(model, known, out=tmp_path / "out", kinds=("mpl",))
    with pytest.raises(InputError, match="limit"):
        facts.run(model, known, out=tmp_path / "out", limit=0)
    with pytest.raises(InputError, match="is a file"):
        facts.run(model, known, out=write(tmp_path / "file", "x"))
    with pytest.raises(InputError, match=r"the model gets none of 1 facts right.*the model says"):
        facts.run(model, [known[2].to_dict()], out=tmp_path / "wrong", **QUICK)
    with pytest.raises(LoadError, match="not a folder of traces"):
        facts.averages(tmp_path)


def test_odd_ids_have_files_of_their_own(model, known, tmp_path):
    entries = [{**known[0].to_dict(), "id": "a/b"}, {**known[1].to_dict(), "id": "a_b"}]
    done = facts.run(model, entries, out=tmp_path / "out", kinds=(None,), **QUICK)
    assert done.ids == ["a/b", "a_b"] and len(files(tmp_path / "out")) == 2
