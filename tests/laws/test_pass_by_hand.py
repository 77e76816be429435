"""One pass by hand: writes arrive where they are said to, noise on the embeddings, heads one at a time."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from faulty_models import HEADS, WIDTH, Model

from mlxtrace import InterpretableModel
from mlxtrace.laws.model_under_test import ModelUnderTest
from mlxtrace.laws.pass_by_hand import HEADED, Noise, Write

IDS, OTHER = [3, 17, 5, 40, 41, 8], [3, 17, 9, 50, 41, 8]
COMPONENTS = (
    "resid_pre",
    "q",
    "k",
    "v",
    "pattern",
    "head",
    "attn",
    "resid_mid",
    "neuron",
    "mlp",
    "resid_post",
)


@pytest.fixture(scope="module")
def sound():
    return ModelUnderTest(InterpretableModel(Model())).by_hand


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_written_with_itself_changes_nothing(sound, component):
    plain, kept = sound.run(IDS, keep=[(component, 1)])
    every = range(len(IDS))
    written, again = sound.run(
        IDS, [Write(component, 1, every, kept[component, 1], every)], keep=[(component, 1)]
    )
    np.testing.assert_allclose(written, plain, atol=1e-6 * np.abs(plain).max())
    np.testing.assert_allclose(again[component, 1], kept[component, 1], atol=1e-6)


@pytest.mark.parametrize("component", ["resid_pre", "resid_mid", "resid_post"])
def test_the_whole_stream_of_another_run_gives_its_logits(sound, component):
    right, kept = sound.run(OTHER, keep=[(component, 1)])
    every = range(len(IDS))
    written, _ = sound.run(IDS, [Write(component, 1, every, kept[component, 1], every)])
    np.testing.assert_allclose(written, right, atol=1e-6 * np.abs(right).max())


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_write_arrives_at_its_position_and_no_other(sound, component):
    _, ours = sound.run(IDS, keep=[(component, 1)])
    _, theirs = sound.run(OTHER, keep=[(component, 1)])
    _, after = sound.run(IDS, [Write(component, 1, [4], theirs[component, 1], [3])], keep=[(component, 1)])
    expected = ours[component, 1].copy()
    axis = 2 if component == "pattern" else 1  # queries
    index = (slice(None),) * axis
    expected[(*index, 4)] = theirs[component, 1][(*index, 3)]
    np.testing.assert_allclose(after[component, 1], expected, atol=1e-6)


@pytest.mark.parametrize("component", HEADED)
def test_heads_one_at_a_time(sound, component):
    _, ours = sound.run(IDS, keep=[(component, 1)])
    _, theirs = sound.run(OTHER, keep=[(component, 1)])
    write = Write(component, 1, [4], theirs[component, 1], [3], heads=[2])
    _, after = sound.run(IDS, [write], keep=[(component, 1)])
    changed = np.abs(after[component, 1] - ours[component, 1]) > 1e-6
    heads = changed.any((0, 2, 3) if component == "pattern" else (0, 1, 3))
    assert heads.tolist() == [h == 2 for h in range(HEADS)]


def test_noise_is_added_or_put_in_place():
    x, values = mx.ones((1, 4, WIDTH)), np.full((2, WIDTH), 0.5)
    added = np.array(Noise([1, 2], values).on(x))
    placed = np.array(Noise([1, 2], values, replace=True).on(x))
    assert added[0, :, 0].tolist() == [1, 1.5, 1.5, 1] and placed[0, :, 0].tolist() == [1, 0.5, 0.5, 1]


def test_noise_is_on_the_embeddings(sound):
    values = np.random.RandomState(0).randn(1, WIDTH)
    _, plain = sound.run(IDS, keep=[("resid_pre", 0)])
    _, noised = sound.run(IDS, noise=Noise([2], values), keep=[("resid_pre", 0)])
    added = noised["resid_pre", 0] - plain["resid_pre", 0]
    np.testing.assert_allclose(added[0, 2], values[0], atol=1e-6)
    assert not added[0, [0, 1, 3, 4, 5]].any()


def test_a_write_that_never_happens_raises(sound):
    write = Write("mlp", 7, [1], np.zeros((1, 6, WIDTH)), [1])
    with pytest.raises(KeyError):
        sound.run(IDS, [write])
