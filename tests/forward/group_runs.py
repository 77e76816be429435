"""What tests of traces over prompts of several lengths share: the prompts, and the model as it was after each."""

from __future__ import annotations

import gc

import mlx.core as mx
import pytest

from mlxtrace.anatomy.recording import forward
from mlxtrace.anatomy.taps import _traced

A, B, C = [3, 17, 5, 90, 41, 8, 77], [3, 17, 66, 12, 41, 8, 20, 33, 9], [5, 3, 44, 90, 2, 8, 71]
MIXED = [A, B, C]  # 7, 9 and 7 tokens


@pytest.fixture(autouse=True)
def untouched(request):
    """After every test the model's classes and logits are bit for bit what they were."""
    if "llama" not in request.fixturenames:
        yield
        return
    model = request.getfixturevalue("llama")
    before = plain(model, [A])
    yield
    gc.collect()
    assert not _traced and not any(hasattr(type(m), "_mlxtrace_original") for m in model.net.modules())
    assert mx.array_equal(plain(model, [A]), before)


def plain(model, batch):
    out = forward(model.net, mx.array(batch))
    mx.eval(out)
    return out
