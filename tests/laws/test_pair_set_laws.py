"""The law of sets: it holds, and rows, sources or noise of another pair break it."""

import numpy as np
import pytest
from models import make

from mlxtrace import InterpretableModel
from mlxtrace.engine import batch, joint_runs, sweep
from mlxtrace.laws.model_under_test import ModelUnderTest
from mlxtrace.laws.pair_set_laws import sets


def measured(name="llama"):
    return sets(ModelUnderTest(InterpretableModel(make(name))))


# mamba, heavy here, is quick in identities/test_architectures.py: the same laws on the same model
@pytest.mark.parametrize(
    "name", ["llama", "gpt2", "gemma2", "mixtral", pytest.param("mamba", marks=pytest.mark.heavy)]
)
def test_it_holds(name):
    found = measured(name)
    assert found.error <= found.tolerance


def rows_of_the_first(*asked, indices=batch.indices):
    to, from_ = indices(*asked)
    return to, (from_[0] * 0, *from_[1:])


def noise_of_the_first(self, x, rows, start=0, embedded=joint_runs.Runs.embedded):
    return embedded(self, x, rows % self.each, start)


def measures_of_the_first(measures, logits, prompts):
    return joint_runs.measured_by_prompt([measures[0]] * len(measures), logits, prompts)


@pytest.mark.parametrize(
    "place, name, fault",
    [
        (batch, "indices", rows_of_the_first),
        (joint_runs.Runs, "embedded", noise_of_the_first),
        (sweep, "measured_by_prompt", measures_of_the_first),
    ],
)
def test_a_fault_breaks_it(monkeypatch, place, name, fault):
    monkeypatch.setattr(place, name, fault)
    found = measured()
    assert not np.isfinite(found.error) or found.error > found.tolerance
