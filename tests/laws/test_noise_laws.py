"""The laws of noise: another seed, another draw, another scale is seen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from faulty_models import Model, misreporting, seen

from mlxtrace import InterpretableModel
from mlxtrace.experiments.noise import UntilRun
from mlxtrace.laws import noise_laws
from mlxtrace.laws.model_under_test import SUBJECT, ModelUnderTest
from mlxtrace.laws.pair_by_hand import NOISE_SEED, drawn_by_hand, embedding_std_by_hand


@pytest.mark.parametrize(
    "change",
    [{}, {"seed": NOISE_SEED + 1}, {"samples": 1}, {"replace": True}, {"level": 0.5}],
    ids=lambda change: "".join(change) or "none",
)
def test_noise_that_is_other_than_asked_for(change):
    def other(name, arguments, options):
        clean, noise, component = arguments
        return (clean, dataclasses.replace(noise, **change), component), options

    found = noise_laws.noise_by_hand(ModelUnderTest(misreporting(Model(), other)))
    assert (found.error > found.tolerance) == bool(change), found


def test_one_seed_that_gives_two_results(monkeypatch):
    assert not seen(noise_laws.noise, Model())
    honest, runs = noise_laws.noised_run, []

    def drifting(*arguments):
        runs.append(honest(*arguments))
        return dataclasses.replace(runs[-1], noise=runs[-1].noise * len(runs))

    monkeypatch.setattr(noise_laws, "noised_run", drifting)
    assert seen(noise_laws.noise, Model())


def test_samples_that_an_engine_mixes_up(monkeypatch):
    assert not seen(noise_laws.noise_rows, Model())
    tested = ModelUnderTest(InterpretableModel(Model()))
    honest = tested.sweep.run

    def swapped(cells, engine, *runs):
        outcome = honest(cells, engine, *runs)
        return (
            outcome
            if engine.name == "loop"
            else dataclasses.replace(outcome, values=outcome.values[..., ::-1])
        )

    monkeypatch.setattr(tested.sweep, "run", swapped)
    assert noise_laws.noise_rows(tested).error > 1e-3


@pytest.mark.parametrize("shift", [0, 1])
def test_rounds_that_draw_the_first_samples_again(monkeypatch, shift):
    honest = UntilRun.part
    monkeypatch.setattr(
        UntilRun, "part", lambda run, begin, end: honest(run, begin - shift * begin, end - shift * begin)
    )
    found = noise_laws.noise_until(ModelUnderTest(InterpretableModel(Model())))
    assert (found.error > found.tolerance) == bool(shift), found


def test_the_draw_by_hand_is_the_published_one():
    tested = ModelUnderTest(InterpretableModel(Model()))
    std = float(np.std(np.array(tested.net.embed_tokens.weight, dtype=np.float64), ddof=1))
    assert embedding_std_by_hand(tested) == pytest.approx(std, rel=1e-6)
    expected = np.random.RandomState(NOISE_SEED).randn(2, len(SUBJECT), tested.model.d_model)
    for level, scale in (("s3", 3 * std), (0.5, 0.5)):
        drawn = drawn_by_hand(tested, level)
        np.testing.assert_allclose([x.values for x in drawn], scale * expected, rtol=1e-6)
        assert all(x.positions == list(SUBJECT) and not x.replace for x in drawn)
    uniform = np.stack([x.values for x in drawn_by_hand(tested, "u0.5")])
    assert -0.5 <= uniform.min() < -0.4 and 0.4 < uniform.max() <= 0.5
