"""The noise of a run: one level for all prompts, from all subjects."""

from __future__ import annotations

import numpy as np
import pytest

import mlxtrace
from mlxtrace import GaussianNoise
from mlxtrace.prompts.noise_scale import level_of_run


@pytest.fixture(scope="module")
def model():
    return mlxtrace.InterpretableModel("demo")


def test_relative_levels_are_of_all_subjects(model):
    subjects = ["Eiffel Tower", "Louvre", "Rome"]
    level, told, notes = level_of_run(model, GaussianNoise(level="s3"), subjects)
    prompt = "The Louvre is in"
    traced = model.causal_trace(
        prompt, "Louvre", subjects=subjects, samples=1, positions="last", progress=False
    )
    assert level == told == pytest.approx(traced.noise_level) and notes == traced.notes[:1]
    assert level != level_of_run(model, GaussianNoise(level="s3"), subjects[:1])[0]
    table, _, notes = level_of_run(model, GaussianNoise(level="s3"), None)
    assert table == pytest.approx(3 * np.std(np.array(model.net.model.embed_tokens.weight)), rel=1e-3)
    assert "whole embedding table" in notes[0]


def test_subjects_that_cannot_be_read_do_not_count(model):
    noise = GaussianNoise(level="s3")
    assert level_of_run(model, noise, ["Rome", "\ud800"])[0] == level_of_run(model, noise, ["Rome"])[0]


@pytest.mark.parametrize("level", [0.25, "u3"])
def test_other_levels_are_what_they_are(model, level):
    found, told, notes = level_of_run(model, GaussianNoise(level=level), ["Rome"])
    assert found == level and isinstance(told, str) and notes == []
