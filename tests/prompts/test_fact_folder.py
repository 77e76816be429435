"""A folder of facts: which traces count as whole, and whose kind they say they are."""

from __future__ import annotations

import numpy as np
import pytest

from mlxtrace.errors import LoadError
from mlxtrace.prompts.fact_folder import FactFolder


@pytest.fixture(scope="module")
def trace(llama):
    prompt = llama.prompt([3, 5, 7, 9, 11]).with_subject(range(1, 3))
    return llama.causal_trace(prompt, kind="mlp", window=1, samples=1, noise=0.1, progress=False)


def test_a_trace_is_whole_with_a_number_for_every_position(llama, trace, tmp_path):
    folder = FactFolder(tmp_path)
    assert folder.is_complete(trace) and folder.part_of(trace) == "mlp"
    prompt = llama.prompt([3, 5, 7, 9, 11]).with_subject(range(1, 3))
    part = llama.causal_trace(prompt, positions="subject", samples=1, noise=0.1, progress=False)
    assert not folder.is_complete(part)
    raw, trace.raw = trace.raw, np.full_like(trace.raw, np.nan)
    assert not folder.is_complete(trace)
    trace.raw = raw


def test_files_have_the_kind_in_their_names(trace, tmp_path):
    folder = FactFolder(tmp_path, {"seed": 1})
    assert folder.path_of("f0").name == "f0.state.npz" and folder.path_of("f0", "attn").name == "f0.attn.npz"
    folder.begin()
    trace.settings = {"fact": {"id": "f0"}, "hash": folder.hash}
    folder.save("f0", "mlp", trace)
    assert folder.result("f0", "mlp") is not None and folder.missing("f0", [None, "mlp"]) == [None]
    with pytest.raises(LoadError):
        folder.load(folder.path_of("f0"))
