"""Averages: printed, saved, loaded, drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fact_runs import QUICK, ROOT, files, known, model, whole, write  # noqa: F401

from mlxtrace import facts
from mlxtrace.errors import InputError
from mlxtrace.experiments.causal_trace import CausalTrace
from mlxtrace.prompts.averages import average_traces
from mlxtrace.results.average_trace import ROLES, AverageTrace


def test_average_prints_saves_and_loads(whole, tmp_path):
    loaded = AverageTrace.load(whole.save(tmp_path / "average"))
    np.testing.assert_array_equal(loaded.interval, whole.interval)
    assert repr(loaded) == repr(whole) and loaded.kinds == [None, "mlp", "attn"]
    assert loaded.peak("mlp")[0] in ROLES
    assert "1.96 standard errors" in repr(whole) and "skipped" in repr(whole)
    rows = whole.to_rows()
    assert len(rows) == 3 * sum(c > 0 for c in whole.counts) * whole.indirect_effect.shape[2]
    again = facts.averages(whole.folder)
    np.testing.assert_array_equal(again.indirect_effect, whole.indirect_effect)
    with pytest.raises(InputError, match="was not traced"):
        average_traces([[CausalTrace.load(Path(whole.folder, "traces", "0001.mlp.npz"))]], ["x"]).of("attn")
    figure = whole.plot()
    scales = {tuple(ax.collections[0].get_clim()) for ax in figure.axes if ax.get_title()}
    assert len(scales) == 1  # one scale for the three kinds
