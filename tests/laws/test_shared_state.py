"""State beside the stream: what the layers are given and return beside it is named."""

from __future__ import annotations

import models
import more_models
import pytest
from faulty_models import Model, Pair

from mlxtrace import InterpretableModel
from mlxtrace.laws.model_under_test import ModelUnderTest
from mlxtrace.laws.shared_state import state_beside_the_stream
from mlxtrace.laws.stream_laws import _beside


def beside(net):
    return _beside(ModelUnderTest(InterpretableModel(net)))


@pytest.mark.parametrize(
    ("name", "said"),
    [("llama", ""), ("gemma4_text", "layers are given more"), ("talkie", "layers are given more")],
)
def test_what_reaches_later_layers_is_named(name, said):
    net = (models if name in models.CONFIGS else more_models).make(name)
    assert beside(net).startswith(said) and bool(beside(net)) == bool(said)


def test_layers_that_return_a_pair():
    assert beside(Model(Pair)) == "layers return more than the stream"


def test_a_layer_that_is_never_called_shows_nothing():
    assert state_beside_the_stream(Model(Pair), {("elsewhere", 0)}, [1, 2], {}) == ""
