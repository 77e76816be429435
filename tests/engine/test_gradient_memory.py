"""What a differentiated pass is expected to take, and what it takes."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from models import make
from more_models import make as make_more
from peaks import tried_again

from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.engine.calibration import measured_peak
from mlxtrace.engine.gradient_memory import can_checkpoint, pass_bytes
from mlxtrace.engine.gradient_pass import Pass, Way
from mlxtrace.engine.runs import Run


def taken(resolver: ModuleResolver, way: Way, rows: int, length: int) -> int:
    run = Run((5,) * length, np.zeros((rows, 0, 1)) if rows > 1 else None)
    one = Pass(resolver, run, np.arange(rows), [resolver.site("embed")], way)
    zeros, _ = one.zeros()
    gc.collect()  # what others left is let go of before, or after
    with measured_peak() as peak:
        one.gradients(lambda logits: logits[:, 0], zeros)
        return peak()


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize(("rows", "length"), [(1, 100), (6, 8), (3, 60)])
@tried_again
def test_passes_stay_within_the_estimate(rows, length, checkpointed):
    resolver, way = ModuleResolver(make("gpt2")), Way(checkpointed=checkpointed)
    estimate, took = pass_bytes(resolver, way, rows, length), taken(resolver, way, rows, length)
    assert took <= estimate <= 5 * took


@tried_again
def test_layers_that_are_computed_again_take_less():
    resolver = ModuleResolver(make("llama", num_hidden_layers=8))
    plain, again = (taken(resolver, Way(checkpointed=c), 2, 64) for c in (False, True))
    assert again < plain / 2


def test_layers_are_not_computed_again_where_gradients_would_be_lost():
    """In kimi_k3 a layer is also given what layers before it wrote, in an object."""
    assert can_checkpoint(ModuleResolver(make("llama")), Way())
    assert not can_checkpoint(ModuleResolver(make_more("kimi_k3")), Way())
