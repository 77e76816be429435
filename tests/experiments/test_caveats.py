"""Caveats: nothing is said of a plain stream, and each kind of layer gets its sentence once."""

import warnings

import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel
from mlxtrace.experiments import caveats, pairs
from mlxtrace.experiments.grid import make_grid


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(models.make("llama", seed=2))


def test_a_plain_stream_is_the_whole_state(model):
    errors = caveats.whole_stream_errors(model.resolver, "resid_post")
    assert set(errors) == set(range(model.n_layers)) and max(errors.values()) < 1e-4
    every = [(c, i) for c in ("resid_pre", "resid_post", "mlp", "attn") for i in range(model.n_layers)]
    assert caveats.cautions(model.resolver, every) == []


def test_state_beside_the_stream_is_said_of_the_layers_that_have_it(model, monkeypatch):
    monkeypatch.setattr(caveats, "whole_stream_errors", lambda resolver, component: {0: 0.25, 1: 0.0})
    (said,) = caveats.cautions(model.resolver, [("resid_post", 0), ("resid_post", 1)])
    assert said.startswith("resid_post is not the whole state at layers 0:") and "0.25" in said
    assert caveats.cautions(model.resolver, [("resid_post", 1)]) == []


def test_cells_are_asked_of_with_all_their_sites(model, monkeypatch):
    seen = []
    monkeypatch.setattr(caveats, "cautions", lambda resolver, sites: seen.append(list(sites)) or [])
    pair = pairs.pair(model, [3, 17, 5], [3, 66, 5])
    caveats.of_cells(model.resolver, make_grid(model, pair, "mlp", [1], window=3).cells(pair.roles("noise")))
    assert seen == [[("mlp", i) for i in range(model.n_layers)[:3]]]


def said_of(model, component, window, n_layers=12):
    """What is said of a window on a model that seems to have so many layers."""
    pair = pairs.pair(model, [3, 17, 5], [3, 66, 5])
    cells = make_grid(model, pair, component, window=window).cells(pair.roles("denoise"))
    return caveats._of_windows(cells, n_layers)


def test_a_window_of_states_is_warned_of(model):
    with pytest.warns(UserWarning, match="window of 2 layers on resid_mid holds one state") as caught:
        (note,) = said_of(model, ["mlp", "resid_mid"], 2)
    assert "its last layer's state" in note and "windows are of mlp and attn" in note
    assert caught[0].filename == __file__  # where the user called
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert said_of(model, ["mlp", "resid_mid"], {"mlp": 2}) == said_of(model, "resid_post", 1) == []


def test_a_window_of_states_is_its_last_ones_for_the_whole_sequence_and_the_last_token(model):
    """As the note has it; of another token it is not, as later tokens read what it held before."""
    options = {"component": "resid_post", "metric": "logit", "target": 7, "progress": False}
    last = [min(layer + 1, model.n_layers - 1) for layer in range(model.n_layers)]  # of three layers
    for positions, same in ((None, True), ("last", True), (1, False)):
        asked = [3, 17, 5, 8], [3, 66, 5, 8]
        single = model.activation_patching(*asked, positions=positions, **options).raw
        with pytest.warns(UserWarning, match="holds one state"):
            held = model.activation_patching(*asked, positions=positions, window=3, **options)
        assert np.allclose(held.raw, single[last], atol=1e-4 * np.abs(single).max()) == same
        assert any("holds one state" in note for note in held.notes)


def test_a_window_that_spans_most_of_the_model_is_said(model):
    (note,) = said_of(model, "mlp", 3, 4)
    assert note.startswith("a window of 3 spans most of this model's 4 layers") and note.endswith("is 1 of 4")
    assert said_of(model, "mlp", 3, 6) == said_of(model, "neuron", 3, 4) == []


def test_a_restored_state_of_the_stream_undoes_the_noise_below(model):
    options = {"level": 0.05, "samples": 1, "layers": [1], "target": 7}
    notes = {c: model.noising_window([3, 17, 5], component=c, **options).notes for c in ("resid_post", "mlp")}
    assert any("its last layer decides" in note for note in notes["resid_post"])
    assert not any("decides" in note for note in notes["mlp"]) and caveats.of_restored("resid_pre", 1) == []
