"""The exceptions by architecture: each is needed, each has its reason, and nothing else is told apart by its name."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import pytest

from mlxtrace.anatomy import architecture_exceptions, recording
from mlxtrace.anatomy.architecture_exceptions import EXCEPTIONS, Exceptional, exceptional, unwrapped_name


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_each_exception_has_a_reason_and_an_architecture(name):
    known = EXCEPTIONS[name]
    reasons = [known.needs_cache, *known.engines.values()]
    assert any(reasons) and all(isinstance(reason, str) for reason in reasons)
    assert known.engines.keys() <= {"fanout", "flat", "prefix"}
    pytest.importorskip(f"mlx_lm.models.{name}", reason=f"this mlx-lm has no {name}")


class Shares(nn.Module):
    """A model whose numbers are other ones when it is given a cache."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(4, 4)]

    def __call__(self, tokens, cache=None):
        return mx.full((*tokens.shape, 4), 0.0 if cache is None else 1.0)


def test_a_model_that_needs_a_cache_gets_one(monkeypatch):
    net, tokens = Shares(), mx.array([[1, 2]])
    assert recording.forward(net, tokens).max() == 0
    monkeypatch.setitem(EXCEPTIONS, unwrapped_name(net), Exceptional(needs_cache="a reason"))
    assert recording.forward(net, tokens).max() == 1


def test_the_name_is_that_of_the_module_that_defines_the_model():
    assert unwrapped_name(Shares()) == "test_architecture_exceptions"
    assert exceptional(Shares()) == Exceptional()
    assert architecture_exceptions.EXCEPTIONS["gemma3n"].needs_cache
