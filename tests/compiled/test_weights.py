"""Weights: what they are made of is exact in float32, and what does not fit is refused."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlxtrace import compiled
from mlxtrace.compiled import weights
from mlxtrace.compiled.rules import Head, Layer, Match, Rules


def test_features_are_orthogonal_and_have_mean_0():
    basis = weights.Basis(compiled.lookup(3).rules)
    directions = np.stack(list(basis.directions.values()))
    assert (directions @ directions.T == 64 * np.eye(len(directions))).all()
    assert (directions.sum(1) == 0).all() and (np.abs(directions) == 1).all()


def test_a_seed_is_another_basis_and_another_place():
    one, two = compiled.lookup(0).rules, compiled.lookup(1).rules
    places = [[sorted(layer.heads) + sorted(layer.neurons) for layer in rules.layers] for rules in (one, two)]
    assert places[0] != places[1]
    assert (weights.Basis(one).directions["pos"] != weights.Basis(two).directions["pos"]).any()


def test_norms_are_identities_and_weights_are_exact():
    program = compiled.lookup()
    x = np.round(np.random.RandomState(0).randn(7, 64) * 300)
    x[:, 0] -= x.sum(1)
    x = mx.array(x.astype(np.float32))
    assert (program.net.model.h[0].ln_1(x) == x).all()
    assert (64 * program.net.model.ln_f(x) == x).all()
    for name, array in weights.weights_of(program.rules).items():
        assert (array.astype(np.float32) == array).all(), name


def test_neurons_are_straight_or_off():
    whole = mx.arange(-60.0, 61.0)
    held = nn.gelu_approx(weights.SATURATED * whole)
    assert (held == weights.SATURATED * mx.maximum(whole, 0)).all()


def test_a_softmax_of_scores_one_apart_is_hard():
    scores = weights.SHARPNESS * mx.array([3.0, 4.0, -7.0, 2.0])
    assert mx.softmax(scores).tolist() == [0.0, 1.0, 0.0, 0.0]


def test_too_many_features_or_channels_are_refused():
    words = tuple(f"w{i}" for i in range(70))
    with pytest.raises(ValueError, match="do not fit"):
        weights.Basis(Rules(words, {word: {word: 1} for word in words}, ()))
    wide = Head("wide", tuple(Match({"": 1}, {"pos": 1}) for _ in range(17)))
    with pytest.raises(ValueError, match="channels"):
        weights.weights_of(Rules(("a",), {}, (Layer({0: wide}, {}),)))
