"""Averages of a folder: of all its facts or some, only those with every kind, and what is written beside the traces."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from fact_runs import QUICK, known, model, whole  # noqa: F401

from mlxtrace.errors import InputError
from mlxtrace.prompts.averages import average_traces
from mlxtrace.prompts.fact_folder import FactFolder as Folder
from mlxtrace.prompts.folder_averages import average_folder
from mlxtrace.results.average_trace import AverageTrace
from mlxtrace.results.causal_trace_result import CausalTrace


def test_of_all_and_of_some(whole):
    folder = Folder(whole.folder, Folder(whole.folder).begun()["settings"])
    every = average_folder(folder, whole.kinds)
    np.testing.assert_array_equal(every.indirect_effect, whole.indirect_effect)
    two = average_folder(folder, [None], ["0001", "0002", "0003"])
    traces = [[CausalTrace.load(folder.path_of(i, None))] for i in ("0001", "0003")]
    np.testing.assert_array_equal(
        two.indirect_effect, average_traces(traces, ["0001", "0003"]).indirect_effect
    )
    assert two.ids == ["0001", "0003"] and [record["id"] for record in two.skipped] == ["0002"]


def test_a_fact_without_every_kind_is_not_averaged(whole, tmp_path):
    folder = Folder(tmp_path / "out", Folder(whole.folder).begun()["settings"])
    folder.begin()
    for id, kinds in (("0000", (None, "mlp")), ("0001", (None,))):
        for kind in kinds:
            folder.save(id, kind, CausalTrace.load(Folder(whole.folder).path_of(id, kind)))
    assert average_folder(folder, [None, "mlp"]).ids == ["0000"]
    assert average_folder(folder, [None]).ids == ["0000", "0001"]
    with pytest.raises(InputError, match="none of 2 facts right"):
        average_folder(folder, ["attn"])


def test_what_is_written(whole, tmp_path):
    folder = Folder(tmp_path)
    folder.publish(whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"average{tail}" for tail in (".csv", ".npz", ".png", ".txt")
    ] + ["average_lines.png"]
    np.testing.assert_array_equal(AverageTrace.load(tmp_path / "average.npz").interval, whole.interval)
    with open(tmp_path / "average.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(whole.to_rows())
