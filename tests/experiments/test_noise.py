"""Noise as experiments take it: its scale on a model, the run that has it, and two draws of one generator."""

import models
import numpy as np
import pytest

from mlxtrace import GaussianNoise, InterpretableModel
from mlxtrace.experiments.noise import embedding_std, noised_run, published_scale, table_scale, two_draws

IDS = [7, 31, 32, 90]


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(models.make("llama", seed=2))


def test_only_relative_levels_have_a_scale(model):
    for level in (0.5, "u2"):
        noise = GaussianNoise(level=level)
        assert table_scale(model, noise) == (None, "") and published_scale(model, noise, None) == (None, [])


def test_the_scale_is_of_the_table_and_says_so(model):
    table = np.array(model.net.model.embed_tokens.weight, dtype=np.float64)
    std, note = table_scale(model, GaussianNoise())
    assert std == embedding_std(model) == pytest.approx(table.std(ddof=1), rel=1e-6)
    again, (advice,) = published_scale(model, GaussianNoise(), None)
    assert again == std and advice.startswith(note) and "subjects=[...]" in advice and "subjects=" not in note


def test_a_noised_run_has_its_draw_at_the_subject(model):
    run = noised_run(model, IDS, range(1, 3), GaussianNoise(samples=4, seed=9), 0.5)
    drawn = np.random.RandomState(9).randn(4, 2, model.d_model) * 1.5
    np.testing.assert_array_equal(run.noise, drawn)
    assert run.ids == tuple(IDS) and run.noised == (1, 2) and not run.replace


def test_two_draws_are_one_after_the_other(model):
    noise = GaussianNoise(level=1.0, samples=3, seed=9)
    first, second = two_draws(model, IDS, range(1, 3), noise, None)
    np.testing.assert_array_equal(first.noise, noised_run(model, IDS, range(1, 3), noise, None).noise)
    draw = np.random.RandomState(9)
    draw.randn(3, 2, model.d_model)
    np.testing.assert_array_equal(second.noise, draw.randn(3, 2, model.d_model))
