"""Caveats: nothing is said of a plain stream, and each kind of layer gets its sentence once."""

import models
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
